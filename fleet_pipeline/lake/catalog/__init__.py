"""The lake as tables of the AWS Glue Data Catalog, for Athena and everything else that asks Glue.

    tables.py    what each table is: columns, partition projection, location; and the same as DDL
    glue.py      the database and the tables as resources that are planned, applied and removed

It knows nothing of Dagster.
"""
