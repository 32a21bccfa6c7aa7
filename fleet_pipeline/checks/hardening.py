"""Whether the cloud side withstands what it must: its settings, its policies put to the attacks, and a virtual vehicle that tries."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from fleet_pipeline.assets import provisioning
from fleet_pipeline.assets.failures import reported
from fleet_pipeline.errors import CannotJudge
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision.blueprint import blueprint, topic_rule_name
from fleet_pipeline.provision.hardening.authorization import misjudged_by_aws
from fleet_pipeline.provision.hardening.deeds import Deed, claim_deeds, device_deeds, misjudged
from fleet_pipeline.provision.hardening.lints import Finding, findings
from fleet_pipeline.provision.reconcile import Resource, look
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.virtual_vehicle import Trial, tried


def hardening_checks(fleet: Fleet) -> list[dg.AssetChecksDefinition]:
    """Return a check of each resource's settings, one of the attacks on each device policy, and the virtual vehicle."""
    parts = blueprint(fleet)
    return [
        *(_settings(name, part.resource, fleet) for name, part in parts.items()),
        _attacks("device_policy", parts["device_policy"].resource, fleet, device_deeds(fleet)),
        _attacks("claim_policy", parts["claim_policy"].resource, fleet, claim_deeds(fleet)),
        _virtual_vehicle(fleet),
    ]


def _settings(name: str, resource: Resource, fleet: Fleet) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=provisioning.key(name), name="hardened", description="The resource, as it is in AWS, has none of the settings that invite trouble.")
    def hardened(account: AccountResource) -> dg.AssetCheckResult:
        with reported():
            live = look(resource, account.aws).live
        found = list(findings(live, fleet, datetime.now(UTC).date())) if live else []
        return dg.AssetCheckResult(passed=not found, description=_sentences(found) or "Nothing to say.", metadata={"findings": len(found)})

    return hardened


def _attacks(name: str, resource: Resource, fleet: Fleet, deeds: Sequence[Deed]) -> dg.AssetChecksDefinition:
    what = (
        f"The policy allows all of {sum(deed.legitimate for deed in deeds)} legitimate deeds and none of {sum(not deed.legitimate for deed in deeds)} attacks."
    )

    @dg.asset_check(asset=provisioning.key(name), name="attacks", description=what)
    def attacks(account: AccountResource) -> dg.AssetCheckResult:
        with reported():
            live: Any = look(resource, account.aws).live
            asked = misjudged_by_aws(fleet, account.aws, resource.name) if live and fleet.profile == "aws" else None
        return judged(fleet, live.document if live else {"Statement": []}, deeds, asked)

    return attacks


def judged(fleet: Fleet, document: dict[str, Any], deeds: Sequence[Deed], by_aws: Sequence[Deed] | None) -> dg.AssetCheckResult:
    """Return what our evaluation says of a policy, and what AWS IoT itself said if it was asked."""
    try:
        ours = misjudged(fleet, document, deeds)
    except CannotJudge as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    wrong = {deed.title: deed for deed in [*ours, *(by_aws or [])]}
    said = "; ".join(f"{'refuses' if deed.legitimate else 'allows'}: {title}" for title, deed in wrong.items())
    return dg.AssetCheckResult(
        passed=not wrong,
        description=said or "As it should be.",
        metadata={"deeds": len(deeds), "wrongly judged": len(wrong), "asked of AWS IoT": by_aws is not None},
    )


def _virtual_vehicle(fleet: Fleet) -> dg.AssetChecksDefinition:
    what = "A virtual vehicle registers and publishes; a foreign serial, a takeover and a foreign topic are refused. It leaves nothing behind."

    @dg.asset_check(
        asset=provisioning.key("claim_attachment"),
        name="virtual_vehicle",
        description=what,
        additional_deps=[provisioning.key(topic_rule_name(rule)) for rule in fleet.rules],
    )
    def virtual_vehicle(account: AccountResource) -> dg.AssetCheckResult:
        with reported():
            trials = tried(fleet, account.opened)
        return dg.AssetCheckResult(passed=all(trial.so for trial in trials), description=_wrong(trials) or "As it should be.", metadata=_table(trials))

    return virtual_vehicle


def _sentences(found: Sequence[Finding]) -> str:
    return "\n".join(f"{each.what}: {each.why}; {each.fix}." for each in found)


def _wrong(trials: Sequence[Trial]) -> str:
    return "; ".join(f"not so: {trial.what} ({trial.said})" for trial in trials if not trial.so)


def _table(trials: Sequence[Trial]) -> dict[str, Any]:
    rows = [dg.TableRecord({"trial": trial.what, "so": trial.so, "said": trial.said}) for trial in trials]
    return {"trials": dg.MetadataValue.table(rows)}
