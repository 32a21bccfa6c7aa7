"""Raw messages become Parquet: every object version of an hour is exactly one row, with its bytes and with typed
columns. Without Dagster.

Reading raw objects      `listing` an hour's versions, `fetching` their bytes, `payload` bytes to a status and fields
Reading batch objects    `batches` which may hold messages of an hour, `records` their records, sorted
Making rows              `rows` blocks of rows, `columns` their typed columns, `structs` nested ones, `contract` which
columns a rule has
Keeping them             `layout` where all lies in the lake, `parts` a Parquet file, `commit` the next free part,
`reading` parts read back, `checksums` of a whole part
Keeping to bounds        `containment` one hour's failure ends that hour alone, `memory` blocks that stay small,
`workplace` its temporary folder
Remembering              `ledger` what is wrong with which hours, since when
Whole verbs              `operations/`: compact, verify and purge, rewrite, replay
What is made of it       `analytics/` tables about vehicles, `catalog/` tables for Glue and Athena, `query` SQL with
DuckDB
"""
