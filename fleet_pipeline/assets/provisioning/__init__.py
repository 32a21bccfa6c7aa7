"""The cloud side in Dagster: an asset and a check for each resource, and the jobs that change them."""
