"""What Dagster is given of a fleet, and our own code location, of which the environment is read here, once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg

from fleet_pipeline.assets.alerts import alert_sensors
from fleet_pipeline.assets.catalog.checks import catalog_checks
from fleet_pipeline.assets.catalog.glue_tables import catalog_assets
from fleet_pipeline.assets.catalog.sensors import table_sensor
from fleet_pipeline.assets.iceberg.tables import iceberg_assets, tell
from fleet_pipeline.assets.iceberg.upkeep import upkeep_job, upkeep_schedule
from fleet_pipeline.assets.lake.aging import retention_job, retention_schedule
from fleet_pipeline.assets.lake.errors import error_assets
from fleet_pipeline.assets.lake.jobs import replay_job
from fleet_pipeline.assets.lake.late_data import late_data_checks
from fleet_pipeline.assets.lake.parquet import lake_assets
from fleet_pipeline.assets.lake.partitions import days, hours
from fleet_pipeline.assets.lake.raw import raw_assets
from fleet_pipeline.assets.lake.schedules import lake_schedules
from fleet_pipeline.assets.lake.sensors import lake_sensors
from fleet_pipeline.assets.provisioning.drift import drift_checks
from fleet_pipeline.assets.provisioning.hardening import hardening_checks
from fleet_pipeline.assets.provisioning.infrastructure import provisioning_assets
from fleet_pipeline.assets.provisioning.jobs import (
    adopt_job,
    claim_jobs,
    destroy_job,
    export_job,
    plan_job,
    rollback_job,
)
from fleet_pipeline.assets.provisioning.schedules import drift_schedule
from fleet_pipeline.assets.shared.scope import Own, Scope
from fleet_pipeline.lake import iceberg
from fleet_pipeline.model import settings
from fleet_pipeline.model.fleet import Fleet, check_account


def build_definitions(
    fleet: Fleet,
    *,
    key_prefix: str | Sequence[str] = (),
    automation: bool | None = None,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
) -> dg.Definitions:
    """Return all that Dagster needs of one fleet: assets, checks, jobs, schedules, sensors and resources.

    Nothing of it is global, so that it can be merged (`dg.Definitions.merge`) with another fleet's, or with a company's
    own. `key_prefix` stands before each asset key and each name; two fleets of one Dagster need two. `automation`
    switches all schedules and sensors on or off from the start; None leaves it to the setting `automation`. `executor`
    runs the steps of our jobs; without one all steps of a run share its process. Raises InvalidName for a prefix that
    Dagster would not take, InvalidSetting for an `automation` that is none of True, False and None, and for a fleet in
    an account that is not named.
    """
    check_account(fleet)
    scope = Scope(fleet, (key_prefix,) if isinstance(key_prefix, str) else tuple(key_prefix), automation, executor)
    provisioning, lake, looks = provisioning_assets(scope), lake_assets(scope), late_data_checks(scope)
    drift, in_step, iceberg = drift_checks(scope), catalog_checks(scope), _Iceberg.of(scope)
    tables = [*catalog_assets(scope), *_vehicles(scope), *iceberg.assets]
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *provisioning,
        *raw_assets(scope),
        *error_assets(scope),
        *lake,
        *tables,
    ]
    checks = [*drift, *in_step, *hardening_checks(scope), *looks]
    jobs: list[Any] = [
        dg.define_asset_job(
            scope.name("provision"),
            # Drift would only repeat what each asset has just looked at.
            dg.AssetSelection.assets(*provisioning) - dg.AssetSelection.checks(*drift),
            description="Bring AWS to what the settings want.",
            executor_def=executor,
        ),
        dg.define_asset_job(
            scope.name("compact"), _only(lake), description="Compact hours of every rule.", executor_def=executor
        ),
        dg.define_asset_job(
            scope.name("look"),
            dg.AssetSelection.checks(*looks),
            description="Look for messages that are not in the lake.",
            executor_def=executor,
        ),
        plan_job(scope, [*drift, *in_step]),
        adopt_job(scope),
        *claim_jobs(scope),
        rollback_job(scope),
        replay_job(scope),
        retention_job(scope, lambda: own, tell),
        destroy_job(scope),
        export_job(scope),
        *iceberg.jobs,
        *_of_one_vehicle(scope),
    ]
    own = Own.of(jobs, assets, checks)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        schedules=[drift_schedule(scope), *lake_schedules(scope), retention_schedule(scope), *iceberg.schedules],
        sensors=[*lake_sensors(scope, own), table_sensor(scope, tables), *alert_sensors(scope, own)],
        resources=scope.resources,
    )


def hour_partitions(fleet: Fleet) -> dg.HourlyPartitionsDefinition:
    """Return the partitions of a fleet's hourly assets, for assets of yours: an hour (UTC) each, from the fleet's start
    to the hour that is running now.
    """
    return hours(fleet)


def day_partitions(fleet: Fleet) -> dg.DailyPartitionsDefinition:
    """Return the partitions of a fleet's daily assets, for assets of yours: a day (UTC) each, from the fleet's start to
    the day that is running now. One of them stands on hours by the mapping `hours_of_the_day()`.
    """
    return days(fleet)


def _only(assets: Sequence[dg.AssetsDefinition]) -> dg.AssetSelection:
    """Return a selection of assets and of the checks that they make themselves, without those that are run apart from
    them.
    """
    selection = dg.AssetSelection.assets(*assets)
    own = dg.AssetSelection.checks(*(key for asset in assets for key in asset.check_keys))
    return selection - dg.AssetSelection.checks_for_assets(*assets) | own


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the fleet that the environment and fleet.toml describe."""
    fleet = settings.read_fleet(os.environ, settings.find_file(os.environ, Path.cwd(), Path.home()))
    # What a person materializes by hand, too: a resource takes a tenth of a second, a process of its own three seconds.
    return dg.Definitions.merge(build_definitions(fleet), dg.Definitions(executor=dg.in_process_executor))


@dataclass(frozen=True, slots=True)
class _Iceberg:
    """What there is of Iceberg: nothing without a catalog, or without the extra `iceberg` where none is asked for."""

    assets: list[dg.AssetsDefinition] = field(default_factory=list)
    jobs: list[dg.JobDefinition] = field(default_factory=list)
    schedules: list[dg.ScheduleDefinition] = field(default_factory=list)

    @classmethod
    def of(cls, scope: Scope) -> "_Iceberg":
        """Return what the settings ask for. Raises MissingExtra where they name a catalog and PyIceberg is missing."""
        if not iceberg.is_wanted(scope.fleet):
            return cls()
        return cls(iceberg_assets(scope), [upkeep_job(scope)], [upkeep_schedule(scope)])


def _of_one_vehicle(scope: Scope) -> list[dg.JobDefinition]:
    """Return the jobs about one vehicle, where the engine of the tables about vehicles, which they need, is there."""
    if find_spec("duckdb") is None:
        return []
    from fleet_pipeline.assets.lake.personal import vehicle_jobs  # noqa: PLC0415 (it imports the engine)

    return vehicle_jobs(scope, tell)


def _vehicles(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return the tables about vehicles, where the engine that computes them is installed (the extra `analytics`)."""
    if find_spec("duckdb") is None:
        return []
    from fleet_pipeline.assets.vehicles import vehicle_assets  # noqa: PLC0415 (it imports the engine)

    return vehicle_assets(scope)
