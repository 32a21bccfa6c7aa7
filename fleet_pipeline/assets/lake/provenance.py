"""By which tags Dagster knows of what an hour was made, so that it shows as out of date when more raw objects were
seen.

Events that are yielded by hand, one an hour, carry no such tags by themselves.
"""

import dagster as dg

from fleet_pipeline.instance.internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
)


def seen(asset: dg.AssetKey, partition: str, versions: int, size: int) -> dg.AssetObservation:
    """Return what was seen of an hour's raw objects. They are only added to, so their number is their version."""
    metadata = {"versions": versions, "bytes": size}
    return dg.AssetObservation(asset, partition=partition, metadata=metadata, tags={DATA_VERSION_TAG: str(versions)})


def known(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> str | None:
    """Return the data version of a partition that Dagster knows last; None where it knows of none."""
    record = instance.get_latest_data_version_record(asset, None, partition)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else None


def own(code_version: str, data_version: str) -> dict[str, str]:
    """Return the tags that say what was made."""
    return {CODE_VERSION_TAG: code_version, DATA_VERSION_TAG: data_version}


def of(
    instance: dg.DagsterInstance, asset: dg.AssetKey, *, is_external: bool = False, partition: str | None = None
) -> dict[str, str]:
    """Return the tags that say of which state of an asset, or of one of its partitions, something was made: of the last
    that Dagster knows.
    """
    record = instance.get_latest_data_version_record(asset, is_external, partition)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    name = asset.to_user_string()
    return {
        f"{INPUT_DATA_VERSION_TAG_PREFIX}/{name}": (version or NULL_DATA_VERSION).value,
        f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{name}": str(record.storage_id) if record else NULL_EVENT_POINTER,
    }
