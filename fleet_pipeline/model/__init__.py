"""What everything else speaks of: settings, names, errors, inert text.

It calls nobody, and imports neither boto3, Arrow nor Dagster.
"""
