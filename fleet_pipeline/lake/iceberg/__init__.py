"""The lake's parts as Apache Iceberg tables, one a rule, over the very same files: what is in the lake and not in a
table is registered.

Needs the extra `iceberg`. Nothing here writes a row, and nothing but `removal` deletes a part.
"""

from importlib.util import find_spec

from fleet_pipeline.model.errors import MissingExtra
from fleet_pipeline.model.fleet import Fleet


def is_wanted(fleet: Fleet) -> bool:
    """Whether the settings ask for tables: a catalog that they name, or the one of this machine where PyIceberg is
    installed. Raises MissingExtra where they name a catalog and it is not.
    """
    if fleet.iceberg_catalog == "off":
        return False
    if find_spec("pyiceberg") is None:
        if fleet.iceberg:
            raise MissingExtra("PyIceberg", "iceberg")
        return False
    return True
