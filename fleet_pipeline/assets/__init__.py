"""The assets, one file for each group of the lineage: provisioning, raw, lake."""
