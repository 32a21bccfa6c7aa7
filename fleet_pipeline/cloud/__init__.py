"""The cloud side of a fleet: what is wanted (`blueprint`), what is found, and the one way from the second to the first
(`reconcile`).
"""
