"""Whether the cloud side withstands what it must: its settings, its policies put to the attacks, and a virtual vehicle
that tries.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import shown, topic_rule_name
from fleet_pipeline.cloud.hardening.lints import LintFinding, findings
from fleet_pipeline.cloud.hardening.review import cases_of, wrongly_judged
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.reconcile import Resource, look
from fleet_pipeline.model.plain import in_markdown, plain
from fleet_pipeline.virtual_vehicle import Trial, tried


def hardening_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """Return a check of each resource's settings, one of the attacks on each device policy, and the virtual vehicle."""
    parts = shown(scope.fleet)
    return [
        *(_settings(name, part.resource, scope) for name, part in parts.items()),
        *(_attacks(name, parts[name].resource, scope) for name in ("device_policy", "claim_policy")),
        _virtual_vehicle(scope),
    ]


def _settings(name: str, resource: Resource, scope: Scope) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=infrastructure.key(scope, name),
        name="hardened",
        description="The resource, as it is in AWS, has none of the settings that invite trouble.",
        required_resource_keys={scope.account_key},
    )
    def hardened(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported():
            live = look(resource, scope.account(context.resources).aws).live
        found = list(findings(live, scope.fleet, datetime.now(UTC).date())) if live else []
        return dg.AssetCheckResult(
            passed=not found, description=_sentences(found) or "Nothing to say.", metadata={"findings": len(found)}
        )

    return hardened


def _attacks(name: str, policy: Resource, scope: Scope) -> dg.AssetChecksDefinition:
    cases = cases_of(scope.fleet, policy.name)
    hostile = sum(not case.legitimate for case in cases)
    what = (
        f"The policy, as it is in AWS, allows all of {len(cases) - hostile} legitimate cases and none of {hostile} "
        "attacks."
    )

    @dg.asset_check(
        asset=infrastructure.key(scope, name),
        name="attacks",
        description=what,
        required_resource_keys={scope.account_key},
    )
    def attacks(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported():
            aws = scope.account(context.resources).aws
            live = look(policy, aws).live
            wrong = wrongly_judged(scope.fleet, aws, live) if isinstance(live, IotPolicy) else [MISSING]
        return dg.AssetCheckResult(
            passed=not wrong,
            description=_sentences(wrong) or "As it should be.",
            metadata={"tried": len(cases), "wrong": len(wrong)},
        )

    return attacks


MISSING = LintFinding("missing", "there is no such policy", "materialize the asset")


def _virtual_vehicle(scope: Scope) -> dg.AssetChecksDefinition:
    what = (
        "A virtual vehicle registers and publishes; a foreign serial, a takeover and a foreign topic are refused. It "
        "leaves nothing behind."
    )

    @dg.asset_check(
        asset=infrastructure.key(scope, "claim_attachment"),
        name="virtual_vehicle",
        description=what,
        additional_deps=[infrastructure.key(scope, topic_rule_name(rule)) for rule in scope.fleet.made_rules],
        required_resource_keys={scope.account_key},
    )
    def virtual_vehicle(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported():
            trials = tried(scope.fleet, scope.account(context.resources).opened)
        return dg.AssetCheckResult(
            passed=all(trial.so for trial in trials),
            description="\n".join(filter(None, (_wrong(trials), _not_tried(trials)))) or "As it should be.",
            metadata=_table(trials),
        )

    return virtual_vehicle


def _sentences(found: Sequence[LintFinding]) -> str:
    return "\n".join(f"- {each.what}: {each.why}; {each.fix}." for each in found)


def _wrong(trials: Sequence[Trial]) -> str:
    return "\n".join(
        f"- wrong: this is not so: {trial.what} ({in_markdown(trial.said)})" for trial in trials if not trial.so
    )


def _not_tried(trials: Sequence[Trial]) -> str:
    return "\n".join(f"- not tried: {trial.what} ({in_markdown(trial.said)})" for trial in trials if not trial.tried)


def _table(trials: Sequence[Trial]) -> dict[str, Any]:
    rows = [
        dg.TableRecord({"trial": trial.what, "outcome": trial.outcome, "said": plain(trial.said)}) for trial in trials
    ]
    return {"trials": dg.MetadataValue.table(rows)}
