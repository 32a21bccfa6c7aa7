"""What is done with hours of the lake: compacted, verified, purged, rewritten, and given back what topic rules could
not write.
"""
