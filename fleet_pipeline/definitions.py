"""What Dagster loads: everything of one fleet. The environment is read here, once."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

from fleet_pipeline.assets.alerts import alert_sensors
from fleet_pipeline.assets.catalog.checks import catalog_checks
from fleet_pipeline.assets.catalog.glue_tables import catalog_assets
from fleet_pipeline.assets.catalog.sensors import table_sensor
from fleet_pipeline.assets.lake.errors import error_assets
from fleet_pipeline.assets.lake.jobs import replay_job
from fleet_pipeline.assets.lake.late_data import late_data_checks
from fleet_pipeline.assets.lake.parquet import lake_assets
from fleet_pipeline.assets.lake.raw import raw_assets
from fleet_pipeline.assets.lake.schedules import lake_schedules
from fleet_pipeline.assets.lake.sensors import lake_sensors
from fleet_pipeline.assets.provisioning.drift import drift_checks
from fleet_pipeline.assets.provisioning.hardening import hardening_checks
from fleet_pipeline.assets.provisioning.infrastructure import provisioning_assets
from fleet_pipeline.assets.provisioning.jobs import adopt_job, claim_jobs, destroy_job, export_job, plan_job, rollback_job
from fleet_pipeline.assets.provisioning.schedules import drift_schedule
from fleet_pipeline.model import settings
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.resources.lock import LockResource


def build(fleet: Fleet) -> dg.Definitions:
    """Return the assets, jobs and resources of a fleet."""
    provisioning, lake, looks = provisioning_assets(fleet), lake_assets(fleet), late_data_checks(fleet)
    drift, in_step, account = drift_checks(fleet), catalog_checks(fleet), AccountResource.of(fleet)
    return dg.Definitions(
        assets=[*provisioning, *raw_assets(fleet), *error_assets(fleet), *lake, *catalog_assets(fleet), *_vehicles(fleet)],
        asset_checks=[*drift, *in_step, *hardening_checks(fleet), *looks],
        jobs=[
            dg.define_asset_job(
                "provision",
                # Drift would only repeat what each asset has just looked at.
                dg.AssetSelection.assets(*provisioning) - dg.AssetSelection.checks(*drift),
                description="Bring AWS to what the settings want.",
            ),
            dg.define_asset_job("compact", _only(lake), description="Compact hours of every rule."),
            dg.define_asset_job("look", dg.AssetSelection.checks(*looks), description="Look for messages that are not in the lake."),
            plan_job([*drift, *in_step]),
            adopt_job(fleet),
            *claim_jobs(fleet),
            rollback_job(fleet),
            replay_job(fleet),
            destroy_job(fleet),
            export_job(fleet),
        ],
        schedules=[drift_schedule(fleet), *lake_schedules(fleet)],
        sensors=[*lake_sensors(fleet), table_sensor(fleet), *alert_sensors(fleet)],
        resources={"account": account, "lock": LockResource(account=account, bucket=fleet.bucket)},
        # A resource takes a tenth of a second, a process of its own three seconds.
        executor=dg.in_process_executor,
    )


def _only(assets: Sequence[dg.AssetsDefinition]) -> dg.AssetSelection:
    """Return a selection of assets and of the checks that they make themselves, without those that are run apart from them."""
    selection = dg.AssetSelection.assets(*assets)
    own = dg.AssetSelection.checks(*(key for asset in assets for key in asset.check_keys))
    return selection - dg.AssetSelection.checks_for_assets(*assets) | own


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the fleet that the environment and fleet.toml describe."""
    return build(settings.read_fleet(os.environ, settings.find_file(os.environ, Path.cwd(), Path.home())))


def _vehicles(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """Return the tables about vehicles, where the engine that computes them is installed (the extra `analytics`)."""
    if find_spec("duckdb") is None:
        return []
    from fleet_pipeline.assets.vehicles import vehicle_assets  # noqa: PLC0415 (it imports the engine)

    return vehicle_assets(fleet)
