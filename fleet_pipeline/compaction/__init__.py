"""Raw messages become Parquet: every object version of an hour is exactly one row, with its bytes and with typed columns.

    hour.py       compact_hour, the one verb; what it did, as a value
    containment.py  the outermost frame of an hour: whatever happens in it ends this hour only
    payload.py    bytes -> a status and, when they are a readable message, its fields
    columns.py    many messages -> typed columns, and what fitted none
    contract.py   a rule's columns: learnt, recorded in the lake, only ever added to
    rows.py       versions and their bytes -> blocks of rows
    parts.py      blocks -> one Parquet file, and back to the identities it holds
    lake.py       where everything lies, and the only way in: the next free part number

It knows nothing of Dagster and never deletes or overwrites. Where the time goes, and what was measured, stands in `docs/benchmarks.md`.
"""
