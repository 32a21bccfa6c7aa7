"""What the lake is for: tables about vehicles, computed from the Parquet of all rules with DuckDB (the extra
`analytics`).

    vehicles.py     vehicles seen each hour; what each vehicle did on a day
    fields.py       the columns that mean something, found by their paths and read as what they mean
    revisions.py    how a derived table is kept where nothing may be overwritten

It knows nothing of Dagster.
"""
