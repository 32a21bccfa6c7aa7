"""What can be launched from the UI beside single assets. What the jobs do stands in the assets, the checks and the core."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from fleet_pipeline.assets.failures import reported
from fleet_pipeline.assets.provisioning import in_diff
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision import adopt as adoption
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

    @dg.op(name="adopt", out=dg.Out(dg.Nothing))
    def adopt_op(context: dg.OpExecutionContext, config: Adoption, account: AccountResource, lock: LockResource) -> None:
        with reported():
            steps = adoption.adopt(fleet, account.aws, lock.held) if config.apply else adoption.foreign(fleet, account.aws)
        context.log.info("%d %s: %s", len(steps), "adopted" if config.apply else "to adopt", ", ".join(step.title for step in steps) or "nothing")
        context.add_output_metadata({"resources": len(steps), "differences": in_diff(_differences(steps))})

    @dg.job(name="adopt", description="List resources that carry our names and not our tag; with `apply`, tag them, after which `provision` upgrades them.")
    def adopt() -> None:
        adopt_op()

    return adopt


def _differences(steps: Sequence[Step]) -> str:
    return "\n".join(f"{step.title}\n{difference(step.changes)}" for step in steps)
