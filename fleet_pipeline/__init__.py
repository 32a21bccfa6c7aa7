"""A vehicle fleet from its first connection to queryable Parquet, on AWS IoT Core, from Dagster."""

__version__ = "0.1.0"
