"""What a person launches about one vehicle: `fleet vehicle export` and `fleet vehicle erase`, as jobs.

The serial stands in the run's config, and so in Dagster's own storage until the vehicle is erased.
"""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from fleet_pipeline.assets.lake.forgetting import ShownInDagster
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import Tell, Told, launched
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.lake.privacy.places import Erased
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.personal_data import GivenOut, Order, erase_vehicle, give_out, planned_erasure


class Access(dg.Config):
    """Whose data are given out, and where to."""

    serial: str = Field(description="The vehicle's name, whole.")
    out: str = Field(description="A folder that is not there yet, on the machine where the run works.")


class Erasure(dg.Config):
    """Whose data are erased, and that it is meant."""

    serial: str = Field(description="The vehicle's name, whole.")
    confirm: str = Field(default="", description="The serial once more. Without it the job says what would go.")
    before: str = Field(default="", description="What was received before this day (UTC), as 2026-11-23; else all.")
    with_thing: bool = Field(default=False, description="Thing, certificates and line of the allow-list, too.")
    with_logs: bool = Field(
        default=False, description="The functions' log streams that name it, too, with what they say of others."
    )
    search_all: bool = Field(default=False, description="Search every hour, and not those that the index names.")


def vehicle_jobs(scope: Scope, tell: Tell) -> list[dg.JobDefinition]:
    """Return the jobs that give out and erase what is held on one vehicle."""
    return [_export_job(scope), _erase_job(scope, tell)]


def _export_job(scope: Scope) -> dg.JobDefinition:
    @launched(
        scope,
        "export_vehicle_op",
        "export_vehicle",
        "Write everything that is held on one vehicle into a folder, and nothing of anyone else's.",
    )
    def export_vehicle(context: dg.OpExecutionContext, config: Access) -> None:
        with reported():
            told, account = Told(context.log), scope.account(context.resources).opened
            done = give_out(
                scope.fleet, account, config.serial, Path(config.out), on_progress=partial(told, "hours read")
            )
        context.add_output_metadata(_given_out(done))

    return export_vehicle


def _given_out(done: GivenOut) -> dict[str, Any]:
    """Return what the UI shows of an export, in its order: it shows the first seven at once."""
    found = done.found
    return {
        "where it lies": dg.MetadataValue.path(str(done.folder.absolute())),
        "manifest.json, SHA-256": done.manifest_sha256,
        "messages": found.messages.total(),
        "rows": found.rows.total(),
        "hours with messages, by the index": len(found.candidates.known),
        "hours looked into": len(found.candidates.unsure),
        "bytes": done.bytes,
        "files": done.files,
        "rows of the tables about vehicles": found.derived.total(),
        "reports": found.reports,
        "left out, as they cannot be read": found.undivided,
        "registered": done.registered,
    }


def _erase_job(scope: Scope, tell: Tell) -> dg.JobDefinition:
    @launched(
        scope,
        "erase_vehicle_op",
        "erase_vehicle",
        "Erase what is held on one vehicle, for good; without `confirm` say what would go.",
    )
    def erase_one(context: dg.OpExecutionContext, config: Erasure) -> None:
        with reported():
            order = Order(
                config.serial, _day(config.before), config.with_thing, config.search_all, with_logs=config.with_logs
            )
            account = scope.account(context.resources).opened
            done = (
                erase_vehicle(
                    scope.fleet,
                    account,
                    order,
                    confirm=config.confirm,
                    event_log=ShownInDagster(scope, context.instance, account.aws),
                    on_progress=Told(context.log),
                )
                if config.confirm
                else planned_erasure(scope.fleet, account, order)
            )
        context.add_output_metadata(_erased(scope.fleet, done) if config.confirm else _planned(scope.fleet, done))
        if config.confirm and (problem := tell(scope, account, context.instance)):
            context.log.warning("Dagster shows Iceberg tables as they were until their next run: %s", problem)
        if not done.clean:
            raise dg.Failure(
                f"{len(done.searched.theirs)} objects of the vehicle were found at the end: launch it again"
            )

    return erase_one


def _erased(fleet: Fleet, done: Erased) -> dict[str, Any]:
    """Return what the UI shows of an erasure, in its order: it shows the first seven at once."""
    removed, looked = done.removed, done.searched.looked
    return {
        "done": True,
        "messages": removed.messages,
        "hours of rules": removed.hours,
        "found at the end": len(done.searched.theirs),
        "looked through at the end": f"{looked.total():,} objects and files, {done.searched.bytes:,} bytes",
        "certificate, SHA-256": done.certificate_sha256,
        "certificate": dg.MetadataValue.path(f"s3://{fleet.lake_bucket}/{done.certificate}"),
        "raw versions": removed.raw_versions,
        "raw bytes": removed.raw_bytes,
        "rows": removed.rows,
        "messages of several vehicles that were taken apart": removed.shared,
        "parts written anew": removed.parts,
        "revisions of the tables about vehicles": removed.revisions,
        "snapshots": removed.snapshots,
        "reports": removed.reports,
        "cannot be read and stay": removed.undivided,
        "its name in what others sent, which stays": done.searched.mentioned.total(),
        "stopped runs that it goes on from": done.stopped,
        **done.elsewhere,
    }


def _planned(fleet: Fleet, done: Erased) -> dict[str, Any]:
    """Return what the UI shows of what would go."""
    removed = done.removed
    return {
        "done": False,
        "messages": removed.messages,
        "hours of rules": removed.hours,
        "raw versions": removed.raw_versions,
        "raw bytes": removed.raw_bytes,
        "bytes of Parquet that would be written anew": removed.part_bytes,
        "certificate": f"none: nothing was changed in s3://{fleet.lake_bucket}",
        "messages of several vehicles that would be taken apart": removed.shared,
        "reports": removed.reports,
        "cannot be read and would stay": removed.undivided,
    }


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError as error:
        raise InvalidName("day", text, "write it as 2026-11-23") from error
