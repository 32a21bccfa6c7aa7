"""The kinds of resources, a file each: how one is read, created, updated and removed.

When that happens, `reconcile` decides.
"""
