"""The AWS Glue Data Catalog in Dagster: a database, a table for each rule, and whether they say what the lake holds."""
