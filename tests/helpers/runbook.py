"""The steps after the theft of a claim certificate, as docs/operations.md has them in its table, and a process that dies at a call of its own."""

import re
from contextlib import suppress
from pathlib import Path

from aws_calls import READING, Refusals, answer

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import Claims, held
from fleet_pipeline.cloud.reconcile import look, reconcile
from fleet_pipeline.model.errors import AwsError, AwsRefused

TABLE = re.findall(
    r"^\| ([^|]+) \| `([abc])` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
    (Path(__file__).parents[2] / "docs" / "operations.md").read_text(),
    re.MULTILINE,
)
"""When it was stolen, which, and the certificates at first and after each step, the one given out first."""

PARTS = ("bucket", "claim_policy", "claim_certificate", "claim_attachment")
"""What of a fleet a claim certificate stands on: enough for the whole of its life."""


class Runbook:
    """The certificates of a fleet, called a, b and c in the order in which they were made."""

    def __init__(self, fleet, aws):
        self.fleet, self.aws, self.names = fleet, aws, {}
        self.shown()

    def held(self):
        return held(Claims.of(self.fleet), self.aws)

    def shown(self):
        found = self.held()
        for each in sorted(found, key=lambda each: each.created):
            self.names.setdefault(each.certificate_id, "abcdefgh"[len(self.names)])
        return ", ".join(
            f"{self.names[each.certificate_id]} {each.status}"
            for each in [*found[:1], *sorted(found[1:], key=lambda each: self.names[each.certificate_id])]
        )

    def id_of(self, name):
        return next(certificate for certificate, its in self.names.items() if its == name)

    def rotate(self):
        life.rotate(self.fleet, self.aws)
        self.shown()

    def stop_a_rotation(self):
        answer(self.aws.iot, "AttachPolicy", by=Refusals("UnauthorizedException", "stop", times=1))
        with suppress(AwsRefused):
            life.rotate(self.fleet, self.aws)

    def apply(self):
        for part in PARTS:
            reconcile(blueprint(self.fleet)[part].resource, self.aws)

    def plan_and_apply_agree(self):
        """Apply; say whether it refused what the plan refuses, and nothing else."""
        steps = [look(blueprint(self.fleet)[part].resource, self.aws) for part in PARTS]
        refused = [str(step.refusal) for step in steps if step.refusal]
        try:
            self.apply()
        except AwsError as error:
            return [str(error)] == refused
        return refused == []

    def has_a_key_for_each(self):
        return all(Claims.of(self.fleet).keys.get(self.aws, each.certificate_pem) for each in self.held())


BEGUN = {
    "no rotation": [],
    "while a rotation lasts": [Runbook.rotate],
    "while a rotation is stopped": [Runbook.stop_a_rotation],
    "after a rotation": [
        Runbook.rotate,
        lambda book: life.retire(book.fleet, book.aws),
        lambda book: book.names.clear(),
    ],
}
"""What went before, by the table's first column."""


class DeadError(BaseException):
    """The process is no more. Nothing but a test catches it."""


def dies(action, fleet, aws, at):
    """Do an action of clients of its own, which dies before its n-th writing call; say whether it died. What the call before it did is done."""
    mortal, seen = Aws(aws.region, aws.account, aws.endpoint_url), []

    def die(event_name, **_):
        seen.extend([event_name] if not event_name.rpartition(".")[2].startswith(READING) else [])
        if len(seen) >= at:  # and stays dead: what tidies up on the way out makes no call either
            raise DeadError(event_name)

    mortal.session.events.register("before-send", die)
    try:
        action(fleet, mortal)
    except DeadError:
        return True
    return False
