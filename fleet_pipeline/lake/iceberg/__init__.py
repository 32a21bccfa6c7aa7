"""The lake's parts as Apache Iceberg tables, one a rule, over the very same files: what is in the lake and not in a
table is registered.

Needs the extra `iceberg`. Nothing here writes a row, and nothing but `removal` deletes a part.
"""
