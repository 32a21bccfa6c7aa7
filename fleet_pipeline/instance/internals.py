"""Everything of Dagster that is not public and that we rely on: an upgrade that moves one of these breaks here, and its
test says which.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
)
from dagster._core.remote_origin import CodeLocationOrigin
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    SCHEDULE_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._serdes import ConfigurableClassData

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "CODE_VERSION_TAG",
    "DATA_VERSION_TAG",
    "INPUT_DATA_VERSION_TAG_PREFIX",
    "INPUT_EVENT_POINTER_TAG_PREFIX",
    "NULL_DATA_VERSION",
    "NULL_EVENT_POINTER",
    "SCHEDULE_NAME_TAG",
    "WILL_RETRY_TAG",
    "AssetCheckExecutionRecordStatus",
    "CodeLocationOrigin",
    "ConfigurableClassData",
    "LocalArtifactStorage",
    "LocalComputeLogManager",
    "SqlEventLogStorage",
    "SqlRunStorage",
    "SqlScheduleStorage",
    "SqliteEventLogStorage",
    "dev",
    "extract_data_version_from_entry",
    "printed_below",
]


def dev() -> Any:
    """Return the module of the command `dagster dev`: its `dev_command`, and `open_ipc_subprocess`, by which it starts
    the webserver.
    """
    return import_module("dagster._cli.dev")


def printed_below(manager: LocalComputeLogManager) -> Path:
    """Return the folder in which what runs printed lies."""
    return Path(manager._base_dir)  # noqa: SLF001 (it has no other way to say it)
