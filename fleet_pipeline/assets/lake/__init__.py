"""The lake in Dagster: raw objects, hours of Parquet, their checks, and what looks after them by the clock."""
