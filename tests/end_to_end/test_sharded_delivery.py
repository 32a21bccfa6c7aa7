"""A rule with shards on AWS on this machine: vehicles drive, their messages lie in shards, and become rows beside those of before, also once the rule has none any more."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import Unit
from fleet_pipeline.lake.query import ask, connect
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.identity import Identity
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.virtual_vehicle import tried

VEHICLES, MESSAGES = 3, 20
DIGITS = {16: 1, 256: 2}


def with_shards(fleet, shards):
    return replace(fleet, rule_keys=(), rule_tables=(RuleTable(key="x", shards=shards),))


def apply(fleet, account):
    with Lock(account.aws, fleet.bucket, "test") as lock:
        return [step for step in apply_all(fleet, account.aws, lock) if step.action is not Action.UNCHANGED]


def keys(fleet, account):
    store = S3Store(account.aws, fleet.bucket)
    return [version.key for page in store.versions(fleet.rules[0].raw_prefix) for version in page]


def new(fleet, account, old):
    return set(keys(fleet, account)) - old


def driven(fleet, account, serials):
    """What vehicles published, once all of it arrived."""
    before = len(keys(fleet, account))
    acknowledged = drive(fleet, account.broker, account.home, serials, MESSAGES).acknowledged["x"]
    give_up = time.monotonic() + 60
    while len(keys(fleet, account)) < before + len(acknowledged) and time.monotonic() < give_up:
        time.sleep(0.2)
    return acknowledged


@pytest.mark.parametrize("shards", [16, 256])
def test_a_rule_gets_shards_and_every_message_before_and_after_is_a_row(make_fleet, command, tmp_path, shards):
    plain = with_shards(make_fleet(raw_key_format="timestamp-uuid-client"), 1)
    account = Account.of(plain)
    apply(plain, account)
    claim, serials, begun = read_claim(plain, account.aws), made_up_serials(plain, VEHICLES), datetime.now(UTC)
    for serial in serials:
        register(plain, account.broker, Identity(claim.certificate_pem, claim.private_key), serial, account.home)
    published = driven(plain, account, serials)
    old = set(keys(plain, account))

    fleet = with_shards(plain, shards)
    own = 'raw_key_format = "timestamp-uuid-client"\nrule_keys = []\n'
    (tmp_path / "fleet.toml").write_text(f'{own}[[rules]]\nkey = "x"\nshards = {shards}\n')
    code, said = command(fleet, "plan")
    assert code == 2
    assert f"/shards/${{substring(newuuid(), 0, {DIGITS[shards]})}}/" in "".join(said.split("│")), (
        "the plan says the key"
    )
    assert [step.action for step in apply(fleet, account)] == [Action.UPDATE]
    assert {step.action for step in plan_all(fleet, account.aws)} == {Action.UNCHANGED}
    published += driven(fleet, account, serials)
    [rule] = fleet.rules
    digits = DIGITS[shards]
    found = [
        re.fullmatch(rf"{rule.raw_prefix}shards/([0-9a-f]{{{digits}}})/.+", key) for key in new(fleet, account, old)
    ]
    assert len({each[1] for each in found}) > digits * 4, "messages are spread"
    assert all(trial.so for trial in tried(fleet, account)), "the virtual vehicle finds its message in its shard"

    fleet, old = plain, set(keys(fleet, account))
    assert [step.action for step in apply(fleet, account)] == [Action.UPDATE]
    published += driven(fleet, account, serials)
    assert not any("/shards/" in key for key in new(fleet, account, old))
    [rule] = fleet.rules
    compaction = Compaction.of(fleet, account.aws, rule)
    for hour in {Hour.of(begun), Hour.of(datetime.now(UTC))}:
        assert compaction(Unit(hour), lambda _: None).complete
    rows = ask(connect(account.aws, fleet), "SELECT message_id FROM x").fetchall()
    assert sorted(each for (each,) in rows) == sorted(published)
