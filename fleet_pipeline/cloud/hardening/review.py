"""Everything that can be found without trying it out: every resource as it is, against the lints and the attacks."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any, cast

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, shown
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.hardening.access_cases import AccessCase, claim_cases, device_cases, misjudged
from fleet_pipeline.cloud.hardening.authorization import misjudged_by_aws
from fleet_pipeline.cloud.hardening.lints import LintFinding, findings
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.reconcile import Resource, Step, look
from fleet_pipeline.model.errors import CannotJudge
from fleet_pipeline.model.fleet import Fleet

MISSING = "it is not there"

_REMEDY = "the settings say it: policy_statements, device_rights or a rule's publish"
_PUT_BACK = "`fleet apply` puts back what the settings say; `fleet plan` shows what differs"


def reviewed(fleet: Fleet, aws: Aws, today: date) -> list[tuple[str, LintFinding]]:
    """Return what should be otherwise, with the resource that it is about. Reads only."""
    return list(_reviewed(fleet, aws, today))


def cases_of(fleet: Fleet, policy: str) -> tuple[AccessCase, ...]:
    """Return what is tried against a policy; nothing for a policy that no device is given."""
    return {fleet.device_policy_name: device_cases(fleet), fleet.claim_policy_name: claim_cases(fleet)}.get(policy, ())


def wrongly_judged(fleet: Fleet, aws: Aws, policy: IotPolicy) -> list[LintFinding]:
    """Return the cases that a policy judges wrongly, by our evaluation and, in an account, by AWS IoT's own."""
    cases = cases_of(fleet, policy.name)
    try:
        wrong = misjudged(fleet, _whole(fleet, aws, policy), cases)
    except CannotJudge as error:
        return [LintFinding("cannot be judged", str(error), "compare it with `fleet plan`")]
    by_aws = misjudged_by_aws(fleet, aws, policy.name) if fleet.profile == "aws" and cases else None
    found = [*dict.fromkeys([*wrong, *(by_aws or [])])]
    remedy = _PUT_BACK if found and _differs(fleet, aws, policy) else _REMEDY
    return [_finding(case, remedy) for case in found]


def _differs(fleet: Fleet, aws: Aws, policy: IotPolicy) -> bool:
    """Say whether an apply would change the policy, or a further one of those that vehicles have."""
    parts = [part.resource for part in shown(fleet).values()]
    further = [each for each in parts if isinstance(each, FurtherDevicePolicy)]
    wanted = [each.document for each in parts if isinstance(each, IotPolicy) and each.name == policy.name]
    is_other = policy.document not in wanted
    return is_other or (policy.name == fleet.device_policy_name and any(look(each, aws).changes for each in further))


def _whole(fleet: Fleet, aws: Aws, policy: IotPolicy) -> dict[str, Any]:
    """Return what a device has with a policy: for a vehicle, the statements of the further policies too, as they are in
    AWS.
    """
    if policy.name != fleet.device_policy_name:
        return policy.document
    further = [part.resource for part in shown(fleet).values() if isinstance(part.resource, FurtherDevicePolicy)]
    found = [step.live for step in (look(each, aws) for each in further) if isinstance(step.live, FurtherDevicePolicy)]
    documents = [policy.document, *(each.document for each in found)]
    return {
        **policy.document,
        "Statement": [statement for document in documents for statement in document["Statement"]],
    }


def _reviewed(fleet: Fleet, aws: Aws, today: date) -> Iterator[tuple[str, LintFinding]]:
    for part in blueprint(fleet).values():
        step = look(part.resource, aws)
        if step.live is None:
            yield step.title, LintFinding(MISSING, "the fleet does not work without it", "make it: `fleet apply`")
        else:
            stays = {each.what for each in findings(_after_an_apply(step, step.live), fleet, today)}
            for each in findings(step.live, fleet, today):
                yield step.title, each if each.what in stays else replace(each, fix=_PUT_BACK)
        if isinstance(step.live, IotPolicy):
            yield from ((step.title, each) for each in wrongly_judged(fleet, aws, step.live))


def _after_an_apply(step: Step, live: Resource) -> Resource:
    """Return a resource as an apply leaves it: what no setting says, or what is refused, stays."""
    if step.refusal:
        return live
    left: Resource = replace(cast(Any, live), **{change.field: change.wanted for change in step.changes})
    return left


def _finding(case: AccessCase, remedy: str) -> LintFinding:
    said = "refuses what it is there for" if case.legitimate else "allows an attack"
    return LintFinding(said, f"whoever has a certificate with it {case.title}", remedy)
