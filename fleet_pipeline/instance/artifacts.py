"""Dagster's own folder on this machine, `.dagster`: it holds rows that were shown, logs and errors, and is entered by
its owner alone.

`dagster.yaml` names the class below, so that the folder is closed by whatever opens the instance first: `dagster dev`,
`dg dev`, `dagster asset materialize`, `fleet demo`, `fleet ui`, a run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fleet_pipeline.instance.internals import ConfigurableClassData, LocalArtifactStorage
from fleet_pipeline.model.private import made_private


class PrivateArtifactStorage(LocalArtifactStorage):
    """Dagster's storage of artifacts, below a folder that is closed to others before anything is written into it."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        made_private(Path(base_dir).absolute())
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Return the storage that dagster.yaml describes."""
        return cls(inst_data=inst_data, **config_value)
