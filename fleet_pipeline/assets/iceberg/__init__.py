"""The lake as Iceberg tables in Dagster: an asset for each rule that follows the lake, and the job that keeps tables
small.
"""
