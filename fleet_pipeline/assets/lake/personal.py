"""What a person launches about one vehicle: `fleet vehicle export` and `fleet vehicle erase`, as jobs.

The serial stands in the run's config, and so in Dagster's own storage until the vehicle is erased.
"""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from pydantic import Field

from fleet_pipeline.assets.lake.forgetting import ShownInDagster
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import launched
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.personal_data import Order, erase_vehicle, give_out, planned_erasure


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


def vehicle_jobs(scope: Scope) -> list[dg.JobDefinition]:
    """Return the jobs that give out and erase what is held on one vehicle."""
    return [_export_job(scope), _erase_job(scope)]


def _export_job(scope: Scope) -> dg.JobDefinition:
    @launched(
        scope,
        "export_vehicle_op",
        "export_vehicle",
        "Write everything that is held on one vehicle into a folder, and nothing of anyone else's.",
    )
    def export_vehicle(context: dg.OpExecutionContext, config: Access) -> None:
        with reported():
            done = give_out(scope.fleet, scope.account(context.resources).opened, config.serial, Path(config.out))
        found = done.found
        context.add_output_metadata(
            {
                "messages": found.messages.total(),
                "rows": found.rows.total(),
                "reports": found.reports,
                "left out, as they cannot be read": found.undivided,
                "files": done.files,
                "bytes": done.bytes,
                "hours looked into": len(found.candidates.unsure),
            }
        )

    return export_vehicle


def _erase_job(scope: Scope) -> dg.JobDefinition:
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
                )
                if config.confirm
                else planned_erasure(scope.fleet, account, order)
            )
        removed = done.removed
        context.add_output_metadata(
            {
                "done": bool(config.confirm),
                "messages": removed.messages,
                "raw versions": removed.raw_versions,
                "rows": removed.rows,
                "reports": removed.reports,
                "cannot be read and stay": removed.undivided,
                "found at the end": len(done.searched.theirs),
                **done.elsewhere,
                "certificate": done.certificate or "none: nothing was changed",
            }
        )
        if not done.clean:
            raise dg.Failure(
                f"{len(done.searched.theirs)} objects of the vehicle were found at the end: launch it again"
            )

    return erase_one


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError as error:
        raise InvalidName("day", text, "write it as 2026-11-23") from error
