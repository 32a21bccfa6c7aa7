"""What can be launched of the cloud side beside single assets.

What the jobs do stands in the assets, the checks and the core.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import dagster as dg
from pydantic import Field

from fleet_pipeline.assets.provisioning.infrastructure import in_diff, key
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import launched
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.operations import adopt as adoption
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.operations.rollback import roll_back, versioned
from fleet_pipeline.cloud.reconcile import Step
from fleet_pipeline.model.errors import NotConfirmed
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain


def plan_job(scope: Scope, checks: Sequence[dg.AssetChecksDefinition]) -> dg.JobDefinition:
    """Return the job that shows what `provision` would do, and where the catalog is behind the lake: it runs checks and
    no asset.
    """
    what = (
        "Compare every resource with the settings, and the catalog with the lake, without a writing call. The checks "
        "show each difference."
    )
    job: dg.JobDefinition = dg.define_asset_job(  # type: ignore[assignment]
        scope.name("plan"), dg.AssetSelection.checks(*checks), description=what, executor_def=scope.executor
    )
    return job


class Adoption(dg.Config):
    """Whether to look or to act."""

    apply: bool = Field(default=False, description="Tag what was found as this fleet's. Nothing else is changed.")


def adopt_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that takes over resources of our names which others have made, such as the CDK app's."""

    @launched(
        scope,
        "adopt_op",
        "adopt",
        "List resources that carry our names and not our tag; with `apply`, tag them, after which `provision` "
        "upgrades them.",
    )
    def adopt(context: dg.OpExecutionContext, config: Adoption) -> None:
        with reported():
            aws, lock = scope.account(context.resources).aws, scope.lock(context.resources).held
            steps = adoption.adopt(scope.fleet, aws, lock) if config.apply else adoption.foreign(scope.fleet, aws)
        context.log.info(
            "%d %s: %s",
            len(steps),
            "adopted" if config.apply else "to adopt",
            ", ".join(step.title for step in steps) or "nothing",
        )
        context.add_output_metadata({"resources": len(steps), "differences": in_diff(_differences(steps))})

    return adopt


_CONFIRM = "The name of the raw bucket. Without it the job changes nothing."


class Confirmation(dg.Config):
    """That it is meant."""

    confirm: str = Field(default="", description=_CONFIRM)


class Revocation(dg.Config):
    """Which claim certificate to end, that it is meant, and what to list."""

    confirm: str = Field(default="", description=_CONFIRM)
    certificate: str = Field(default="", description="Its id, when it is not the one that is given out.")
    since: str = Field(
        default="2015-10-08", description="List the vehicles registered with it since this day (UTC), as 2026-11-23."
    )


def claim_jobs(scope: Scope) -> list[dg.JobDefinition]:
    """Return the jobs of the claim certificate's life: what `fleet claim rotate`, `retire` and `revoke` do."""
    fleet = scope.fleet

    @launched(
        scope,
        "rotate_op",
        "rotate_claim",
        "Give out a new claim certificate; the old one works on, until `retire_claim`.",
    )
    def rotate_claim(context: dg.OpExecutionContext, config: Confirmation) -> None:
        with reported():
            _confirmed("rotate_claim", config.confirm, fleet)
            scope.lock(context.resources).take()
            context.add_output_metadata(
                {"given out from now on": life.rotate(fleet, scope.account(context.resources).aws)}
            )

    @launched(
        scope,
        "retire_op",
        "retire_claim",
        "End a rotation: delete the former claim certificates, with every version of their keys.",
    )
    def retire_claim(context: dg.OpExecutionContext, config: Confirmation) -> None:
        with reported():
            _confirmed("retire_claim", config.confirm, fleet)
            scope.lock(context.resources).take()
            context.add_output_metadata(
                {"retired": "\n".join(life.retire(fleet, scope.account(context.resources).aws)) or "none"}
            )

    @launched(
        scope,
        "revoke_op",
        "revoke_claim",
        "After a theft: end a claim certificate at once and list what was registered with it. Then `rotate_claim`.",
    )
    def revoke_claim(context: dg.OpExecutionContext, config: Revocation) -> None:
        with reported():  # no lock: nobody's work may stand between a theft and its end
            _confirmed("revoke_claim", config.confirm, fleet)
            since = datetime.combine(date.fromisoformat(config.since), time(), UTC)
            aws = scope.account(context.resources).aws
            revoked = life.revoke(fleet, aws, config.certificate)
            found = list(life.registered_with(fleet, aws, revoked, since))
        rows = [
            dg.TableRecord({"thing": plain(each.thing_name), "certificate": each.certificate_id, "status": each.status})
            for each in found
        ]
        context.add_output_metadata(
            {"revoked": revoked, "vehicles": len(rows), "registered with it": dg.TableMetadataValue(rows, _REGISTERED)}
        )

    return [rotate_claim, retire_claim, revoke_claim]


def _confirmed(job: str, said: str, fleet: Fleet) -> None:
    if said != fleet.bucket:
        raise NotConfirmed(job, fleet.bucket)


class Rollback(dg.Config):
    """Where to go back to."""

    resource: str = Field(description="A part of the blueprint of which AWS keeps versions, such as device_policy.")
    to: int = Field(description="The number of a version that AWS has kept; `fleet versions` lists them.")


def rollback_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that puts a former version of a policy or a template in force: what `fleet rollback` does."""

    @launched(
        scope,
        "rollback_op",
        "rollback",
        "Put a former version of a policy or template in force, until the settings follow or `provision` undoes it.",
    )
    def rollback(context: dg.OpExecutionContext, config: Rollback) -> None:
        with reported():
            resource = versioned(blueprint(scope.fleet), config.resource)
            scope.lock(context.resources).take()
            step = roll_back(resource, config.to, scope.account(context.resources).aws)
        context.add_output_metadata(
            {"in force": config.to, "what `provision` would change": in_diff(_differences([step]))}
        )

    return rollback


class Teardown(dg.Config):
    """What may be lost."""

    confirm: str = Field(
        default="",
        description="The name of the raw bucket. Without it the job says what would be lost, and changes nothing.",
    )
    with_data: bool = Field(
        default=False, description="Delete both buckets with every message and every Parquet file, too."
    )


def destroy_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that takes the fleet down: what `fleet destroy` does. What is gone shows as not materialized."""

    @launched(
        scope,
        "destroy_op",
        "destroy",
        "Remove what `provision` made, in reverse order. Refuses to lose anything without `confirm`; buckets are kept.",
    )
    def teardown(context: dg.OpExecutionContext, config: Teardown) -> None:
        gone = []
        with reported():
            aws, lock = scope.account(context.resources).aws, scope.lock(context.resources)
            for each in destroy(
                scope.fleet, aws, confirmed=config.confirm, with_data=config.with_data, before_write=lock.take
            ):
                context.log.info("%s: %s", each.what, each.action)
                gone.append(each)
        context.instance.wipe_assets([key(scope, each.part) for each in gone if each.part and each.action != "kept"])
        rows = [dg.TableRecord({"what": each.what, "action": str(each.action)}) for each in gone]
        context.add_output_metadata({"gone": dg.MetadataValue.table(rows)})

    return teardown


def export_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that shows the blueprint as a CloudFormation template: what `fleet export
    cloudformation` writes.
    """

    @launched(
        scope,
        "export_op",
        "export_cloudformation",
        "Show the whole cloud side as one CloudFormation template. Asks nothing of AWS.",
    )
    def export(context: dg.OpExecutionContext) -> None:
        context.add_output_metadata({"template": dg.MetadataValue.json(cloudformation(scope.fleet))})

    return export


_REGISTERED = dg.TableSchema([dg.TableColumn(name) for name in ("thing", "certificate", "status")])


def _differences(steps: Sequence[Step]) -> str:
    return "\n".join(f"{step.title}\n{difference(step.changes)}" for step in steps)
