"""A vehicle that nobody built: it tries what a vehicle does and what a thief would, on the cloud side as it is, and
leaves nothing behind.

What it publishes are messages like any other. They are deleted as soon as they have arrived; an hour that is compacted
in that very second keeps them as rows, whose `virtual_vehicle` says so.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.documents.iam import VIRTUAL
from fleet_pipeline.cloud.enrolment import allow_list, enrolled
from fleet_pipeline.cloud.hook_trial import asked
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.model.errors import ConnectionFailed, FleetError, PublishRefused, RegistrationRefused
from fleet_pipeline.model.fleet import LONGEST_SERIAL, Fleet
from fleet_pipeline.model.hour import Span
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.thing import SERIAL
from fleet_pipeline.vehicle.connection import connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register

ARRIVAL_S = 30
"""How long a message is waited for. AWS IoT's rules act within a second or two."""

CLOCKS_MS = 60_000
"""How far this machine's clock and that of AWS may differ."""


SPREADING = timedelta(minutes=8)
"""How long AWS IoT may go by the policy before.

Source: AWS IoT Core Developer Guide, iot-policies ("between 6 and 8 minutes").
"""

OWN_CHECK = "the company's check"
"""What the hook's reason begins with where a check of the company's own (FLEET_HOOK_FILE) has refused."""

MAY_NOT_ASK = ("AccessDeniedException", "ForbiddenException", "UnauthorizedException")
"""What AWS answers to rights that were printed before the virtual vehicle asked for policies."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried: what must be so, whether it is, and what was said.

    What could not be tried is not `tried`; it is not taken for wrong.
    """

    what: str
    so: bool
    said: str
    tried: bool = True

    @property
    def outcome(self) -> str:
        """What came of it, in words."""
        return "not tried" if not self.tried else "as it should be" if self.so else "wrong"


def tried(fleet: Fleet, account: Account) -> list[Trial]:
    """Return what came of every trial.

    Afterwards there is no thing, no active certificate and no object of the virtual vehicle.

    What went wrong within minutes of a change to a policy says so, in an account: AWS IoT may not go by the new one
    yet.
    """
    serial = f"{fleet.serial_beginning}{VIRTUAL}{secrets.token_hex(5).upper()}"
    with TemporaryDirectory(prefix="fleet-") as home:
        trials = _Trials(fleet, account, serial, Path(home))
        try:
            found = list(trials.all())
        finally:
            trials.clean_up()
    spreading = _spreading(fleet, account.aws) if fleet.profile == "aws" and not all(each.so for each in found) else ""
    return [each if each.so else replace(each, said=f"{each.said}{spreading}") for each in found]


def _spreading(fleet: Fleet, aws: Aws) -> str:
    """Return in words which policy may still be spreading and when to try again; nothing when all are old enough."""
    for name in (fleet.device_policy_name, fleet.claim_policy_name):
        with doing(f"show IoT policy {name!r}"), absent("ResourceNotFoundException", *MAY_NOT_ASK):
            changed = aws.iot.get_policy(policyName=name).get("lastModifiedDate")
            if changed and (until := changed + SPREADING) > datetime.now(UTC):
                return (
                    f"; AWS IoT may not go by policy {name!r} yet, which was changed a few minutes ago: try again "
                    f"after {until.astimezone(UTC):%H:%M} UTC"
                )
    return ""


@dataclass(frozen=True)
class _Trials:
    fleet: Fleet
    account: Account
    serial: str
    home: Path

    @property
    def foreign(self) -> str:
        """A serial that is not of the form of ours."""
        others = (f"{first}{self.serial[1:]}" for first in ("8" if self.serial.startswith("9") else "9", "_", ":", "-"))
        return next(
            (other for other in others if not re.fullmatch(self.fleet.serial_form, other, re.ASCII)),
            f"{self.serial}{'_' * LONGEST_SERIAL}",
        )

    @property
    def _tried(self) -> list[Rule]:
        """The rules whose raw objects are the messages themselves: of others it is not known what becomes of a message,
        nor could it be removed; nor out of a batch.
        """
        return [
            rule
            for rule in self.fleet.made_rules
            if rule.publish and rule.enabled and rule.keeps_payloads and rule.delivery == "object"
        ]

    @property
    def own_key(self) -> str:
        """The serial of a second vehicle, which makes its key itself."""
        return f"{self.serial}K"

    def all(self) -> Iterator[Trial]:
        claim = read_claim(self.fleet, self.account.aws)
        identity = Identity(claim.certificate_pem, claim.private_key)
        yield self._refused("a foreign serial is refused", lambda: self._register(identity, self.foreign, "foreign"))
        if self.fleet.allow_list != "none":
            for serial in (self.serial, self.own_key):
                allow_list.add(self.fleet, self.account.aws, serial)
        for each in self.fleet.parameters:
            wrong = ((each.name, f"{each.form.example(0)}!"),)
            yield self._refused(
                f"a malformed parameter {each.name} is refused",
                partial(self._register, identity, self.serial, "malformed", sent=wrong),
            )
        said = self.fleet.made_up_parameters(secrets.randbelow(10**9) + 1)
        registers = self._succeeds(
            "an allowed serial registers",
            lambda: self._register(identity, self.serial, "own", sent=tuple(said.items())),
        )
        if not registers.so and (refusal := self._own_refusal(said)):
            yield replace(registers, so=True, tried=False, said=refusal)
            return
        yield registers
        if registers.so:
            yield self._refused(
                "a registered vehicle cannot be taken over", lambda: self._register(identity, self.serial, "thief")
            )
            yield self._succeeds(
                "a vehicle registers with a key of its own",
                lambda: self._register(identity, self.own_key, "own-key", own_key=True),
            )
            yield from (
                self._succeeds(f"a message of {rule.key} arrives", partial(self._arrives, rule)) for rule in self._tried
            )
            yield self._refused("a foreign topic is refused", self._publishes_elsewhere)
            yield self._succeeds("and the vehicle can still connect", self._connects)

    def _own_refusal(self, said: Mapping[str, str]) -> str:
        """Return in words why the company's own check keeps the virtual vehicle out, if it is that which does."""
        if not self.fleet.hook_file:
            return ""
        answer = asked(self.fleet, self.account.aws, {"parameters": {SERIAL: self.serial, **said}})
        if answer.allowed or not answer.reason.startswith(OWN_CHECK):
            return ""
        return (
            f"{answer.reason}. Nothing behind it was tried either. For a trial, let serials with {VIRTUAL} in there, "
            "and say parameters that it knows as `examples` of [parameters.…]"
        )

    def clean_up(self) -> None:
        """Leave nothing behind, whatever succeeded that should not have."""
        aws = self.account.aws
        for serial in (self.serial, self.own_key, self.foreign):
            enrolled.remove_vehicle(self.fleet, aws, self.fleet.thing_name(serial))
        for serial in (self.serial, self.own_key):
            allow_list.take_off(self.fleet, aws, serial)

    def _register(
        self,
        claim: Identity,
        serial: str,
        folder: str,
        *,
        own_key: bool = False,
        sent: tuple[tuple[str, str], ...] = (),
    ) -> None:
        said = {**self.fleet.made_up_parameters(secrets.randbelow(10**9) + 1), **dict(sent)}
        register(self.fleet, self.account.broker, claim, serial, self.home / folder, own_key=own_key, parameters=said)

    def _connects(self) -> None:
        with connected(self.account.broker, self._identity, self.fleet.thing_name(self.serial)):
            pass

    def _publishes_elsewhere(self) -> None:
        with connected(self.account.broker, self._identity, self.fleet.thing_name(self.serial)) as connection:
            connection.publish(
                f"$aws/rules/{self.fleet.made_rules[0].aws_name}/{self.fleet.raw_prefix}/virtual/vehicle", b"{}"
            )

    def _arrives(self, rule: Rule) -> None:
        """Publish a message, and return once its object was there and is deleted."""
        payload = json.dumps({"virtual_vehicle": self.serial}).encode()
        since = int(time.time() * 1000) - CLOCKS_MS
        topic = rule.published_by(self.fleet.thing_name(self.serial))[0]
        with connected(self.account.broker, self._identity, self.fleet.thing_name(self.serial)) as connection:
            connection.publish(topic, payload)
        give_up = time.monotonic() + ARRIVAL_S
        while not _deleted(self.account.aws, self.fleet.bucket, rule, since, payload):
            if time.monotonic() > give_up:
                raise PublishRefused(
                    self.fleet.thing_name(self.serial), topic, f"acknowledged, and no object within {ARRIVAL_S} s"
                )
            time.sleep(0.2)

    @property
    def _identity(self) -> Identity:
        found = VehicleFolder.of(self.home / "own", self.fleet.thing_name(self.serial)).read()
        if found is None:
            raise FileNotFoundError(self.home)
        return found

    def _succeeds(self, what: str, call: Callable[[], None]) -> Trial:
        try:
            call()
        except FleetError as error:
            return Trial(what, so=False, said=str(error))
        return Trial(what, so=True, said="yes")

    def _refused(self, what: str, call: Callable[[], None]) -> Trial:
        """Try what must not succeed.

        A broker may also just hang up; that it is there is seen from what succeeds before and after.
        """
        try:
            call()
        except (RegistrationRefused, PublishRefused, ConnectionFailed) as error:
            return Trial(what, so=True, said=str(error))
        return Trial(what, so=False, said="it was let through")


def _deleted(aws: Aws, bucket: str, rule: Rule, since: int, payload: bytes) -> bool:
    """Delete the object that holds this payload, and say whether there was one."""
    store = S3Store(aws, bucket)
    listed = [
        each
        for page in pages(store, rule, Span(since, since + 3 * CLOCKS_MS))
        for each in page
        if each.size == len(payload)
    ]
    found = [listed[place] for place, body in store.bodies(listed) if body == payload]
    store.delete(found)
    return bool(found)
