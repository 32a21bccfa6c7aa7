"""What can be launched from the UI beside single assets. What the jobs do stands in the assets, the checks and the core."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import dagster as dg
from pydantic import Field

from fleet_pipeline.assets.failures import reported
from fleet_pipeline.assets.provisioning import in_diff
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision import adopt as adoption
from fleet_pipeline.provision.claim import life
from fleet_pipeline.provision.difference import difference
from fleet_pipeline.provision.reconcile import Step
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.resources.lock import LockResource


def plan_job(checks: Sequence[dg.AssetChecksDefinition]) -> dg.JobDefinition:
    """Return the job that shows what `provision` would do: it runs the drift checks and no asset."""
    what = "Compare every resource with the settings, without a writing call. The checks show each difference, and who to ask."
    job: dg.JobDefinition = dg.define_asset_job("plan", dg.AssetSelection.checks(*checks), description=what)  # type: ignore[assignment]
    return job


class Adoption(dg.Config):
    """Whether to look or to act."""

    apply: bool = Field(default=False, description="Tag what was found as this fleet's. Nothing else is changed.")


def adopt_job(fleet: Fleet) -> dg.JobDefinition:
    """Return the job that takes over resources of our names which others have made, such as the CDK app's."""

    @dg.op(out=dg.Out(dg.Nothing))
    def adopt_op(context: dg.OpExecutionContext, config: Adoption, account: AccountResource, lock: LockResource) -> None:
        with reported():
            steps = adoption.adopt(fleet, account.aws, lock.held) if config.apply else adoption.foreign(fleet, account.aws)
        context.log.info("%d %s: %s", len(steps), "adopted" if config.apply else "to adopt", ", ".join(step.title for step in steps) or "nothing")
        context.add_output_metadata({"resources": len(steps), "differences": in_diff(_differences(steps))})

    @dg.job(name="adopt", description="List resources that carry our names and not our tag; with `apply`, tag them, after which `provision` upgrades them.")
    def adopt() -> None:
        adopt_op()

    return adopt


class Revocation(dg.Config):
    """Which claim certificate to end, and what to list."""

    certificate: str = Field(default="", description="Its id, when it is not the one that is given out.")
    since: str = Field(default="2015-10-08", description="List the vehicles registered with it since this day (UTC), as 2026-11-23.")


def claim_jobs(fleet: Fleet) -> list[dg.JobDefinition]:
    """Return the jobs of the claim certificate's life: what `fleet claim rotate`, `retire` and `revoke` do."""

    @dg.op(out=dg.Out(dg.Nothing))
    def rotate_op(context: dg.OpExecutionContext, account: AccountResource) -> None:
        with reported():
            context.add_output_metadata({"given out from now on": life.rotate(fleet, account.aws)})

    @dg.op(out=dg.Out(dg.Nothing))
    def retire_op(context: dg.OpExecutionContext, account: AccountResource) -> None:
        with reported():
            context.add_output_metadata({"retired": "\n".join(life.retire(fleet, account.aws)) or "none"})

    @dg.op(out=dg.Out(dg.Nothing))
    def revoke_op(context: dg.OpExecutionContext, config: Revocation, account: AccountResource) -> None:
        with reported():
            since = datetime.combine(date.fromisoformat(config.since), time(), UTC)
            revoked = life.revoke(fleet, account.aws, config.certificate)
            found = list(life.registered_with(fleet, account.aws, revoked, since))
        rows = [dg.TableRecord({"thing": each.thing_name, "certificate": each.certificate_id, "status": each.status}) for each in found]
        context.add_output_metadata({"revoked": revoked, "vehicles": len(rows), "registered with it": dg.TableMetadataValue(rows, _REGISTERED)})

    @dg.job(description="Give out a new claim certificate; the old one works on, until `retire_claim`.")
    def rotate_claim() -> None:
        rotate_op()

    @dg.job(description="End a rotation: delete the former claim certificates, with every version of their keys.")
    def retire_claim() -> None:
        retire_op()

    @dg.job(description="After a theft: end a claim certificate at once and list what was registered with it. Then `rotate_claim`.")
    def revoke_claim() -> None:
        revoke_op()

    return [rotate_claim, retire_claim, revoke_claim]


_REGISTERED = dg.TableSchema([dg.TableColumn(name) for name in ("thing", "certificate", "status")])


def _differences(steps: Sequence[Step]) -> str:
    return "\n".join(f"{step.title}\n{difference(step.changes)}" for step in steps)
