"""A verdict belongs to an hour: it stands in the lake until somebody has judged that very hour again, whoever judges others meanwhile."""

import os
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from click.testing import CliRunner
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st
from in_dagster import ALONE, definitions_of

from fleet_pipeline.assets.lake import late_data, parquet, raw
from fleet_pipeline.assets.shared.evaluations import last_evaluation
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.assets.vehicles import hourly_key
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.ledger import UNCOMPACTED, WHOLE, Ledger, Verdict
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.model.spelt import GONE, Spelling

HOURLY_KEY = hourly_key(ALONE)
RULE = Fleet().rules[0]
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TEN = Hour.parse("2026-11-28-10:00")
ELEVEN = TEN.next
RED, GREEN = Verdict("9 of 10 messages", 1), Verdict("")


def ledger(store):
    return Ledger(store, "lake", RULE)


def red(faults):
    return {(fault.hour, fault.criterion) for fault in faults}


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([TEN, ELEVEN]), st.dictionaries(st.sampled_from([WHOLE, UNCOMPACTED]), st.booleans())
        )
    )
)
def test_of_each_hour_the_last_verdict_stands_whoever_judged_other_hours_since(judgements):
    store, last = DictStore(page=2), {}
    for number, judged in enumerate(judgements):
        verdicts = {
            hour: {name: RED if broken else GREEN for name, broken in found.items()} for hour, found in judged.items()
        }
        ledger(store).judge(NOW + timedelta(minutes=number), verdicts)
        last |= {(hour.partition_key, name): broken for hour, found in judged.items() for name, broken in found.items()}
    assert red(ledger(store).faults()) == {key for key, broken in last.items() if broken}


def test_an_hour_that_stays_red_says_since_when_and_nothing_is_written_while_nothing_changes():
    store = DictStore()
    for minutes in 0, 10, 20:
        ledger(store).judge(NOW + timedelta(minutes=minutes), {TEN: {WHOLE: RED}, ELEVEN: {WHOLE: GREEN}})
    assert [fault.since for fault in ledger(store).faults()] == [NOW]
    assert len(store.objects) == 1


class Overtaken(DictStore):
    """A lake in which another judges hour ten whenever somebody is about to write a verdict for the first time."""

    overtake = True

    def put_new(self, key, body):
        if self.overtake:
            self.overtake = False
            ledger(self).judge(NOW, {TEN: {WHOLE: RED}})
        return super().put_new(key, body)


def test_two_that_judge_at_once_both_keep_their_verdicts():
    store = Overtaken()
    assert red(ledger(store).judge(NOW, {ELEVEN: {WHOLE: RED}})) == {
        (TEN.partition_key, WHOLE),
        (ELEVEN.partition_key, WHOLE),
    }
    assert len(store.objects) == 2


def test_an_hour_is_asked_for_so_many_times_and_no_more_whatever_is_found_of_it_between():
    store = DictStore()
    ledger(store).judge(NOW, {TEN: {UNCOMPACTED: RED}})
    asked = []
    for count in range(5):
        ledger(store).judge(
            NOW, {TEN: {UNCOMPACTED: Verdict(f"{count} messages", count)}, ELEVEN: {UNCOMPACTED: GREEN}}
        )
        asked.append(ledger(store).ask(UNCOMPACTED, [TEN, ELEVEN], 3))
    assert asked == [[TEN], [TEN], [TEN], [], []]


def test_a_warning_is_forgotten_after_some_days_and_an_error_is_not():
    store = DictStore()
    ledger(store).judge(NOW, {TEN: {"messages_are_readable": Verdict("3 of 5", error=False), WHOLE: RED}})
    assert len(ledger(store).judge(NOW + timedelta(days=13), {})) == 2
    assert red(ledger(store).judge(NOW + timedelta(days=14), {})) == {(TEN.partition_key, WHOLE)}


@pytest.mark.parametrize("damage", [b"", b"no JSON", b'[{"hour": 3}]', b"\xff\xfe"])
def test_a_damaged_record_ends_nothing_and_what_stood_before_it_stands(damage):
    store = DictStore()
    ledger(store).judge(NOW, {TEN: {WHOLE: RED}})
    ledger(store).judge(NOW, {ELEVEN: {WHOLE: RED}})
    store.put(min(store.objects), damage)
    assert red(ledger(store).faults()) == {(TEN.partition_key, WHOLE)}
    assert red(ledger(store).judge(NOW, {ELEVEN: {WHOLE: RED}})) == {
        (TEN.partition_key, WHOLE),
        (ELEVEN.partition_key, WHOLE),
    }


def test_a_vehicles_name_leaves_the_newest_record_and_the_former_ones_that_have_it_are_named():
    store, name = DictStore(page=2), "297468000001"
    foreign = Verdict(f"rule1/1795428000005-{name}.json, rule1/{name}7", 2)
    ledger(store).judge(NOW, {ELEVEN: {WHOLE: RED}})
    ledger(store).judge(NOW, {TEN: {"no_foreign_keys": foreign}})
    ledger(store).judge(NOW, {TEN: {WHOLE: RED}})
    before = ledger(store).faults()
    going = ledger(store).without(Spelling(name))
    assert [each.key[-13:] for each in going] == ["99999997.json", "99999998.json"]
    store.delete(going)
    after = ledger(store).faults()
    assert [fault.said for fault in after if fault.criterion == "no_foreign_keys"] == [
        f"rule1/1795428000005-{GONE}.json, rule1/{name}7"
    ]
    assert red(after) == red(before)
    assert ledger(store).without(Spelling(name)) == []
    assert len(store.objects) == 2


def test_a_key_that_is_no_record_is_passed_over():
    store = DictStore()
    ledger(store).judge(NOW, {TEN: {WHOLE: RED}})
    for stray in "0.json", "00000000.txt", "readme", "\u0660" * 8 + ".json":
        store.put(f"lake/_verdicts/rule={RULE.key}/{stray}", b"[]")
    assert red(ledger(store).faults()) == {(TEN.partition_key, WHOLE)}


@pytest.fixture
def fleet(make_fleet):
    """The one rule whose verdicts these are."""
    return make_fleet(rule_keys=(RULE.key,))


@pytest.fixture
def put(fleet, aws):
    for bucket in (fleet.bucket, fleet.lake_bucket):
        aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
        aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def write(hour):
        name = RawName(hour.start_ms, "7c9e6679-7425-40de-944b-e07fc1f90ae7")
        aws.s3.put_object(
            Bucket=fleet.bucket, Key=RULE.raw_key(name), Body=b'{"serial": "297468000001", "speed_kmh": 48.2}'
        )

    return write


def ago(hours):
    return Hour.of(datetime.now(UTC) - timedelta(hours=hours))


def look(fleet, instance, hours):
    ops = {f"look_at_{rule.key}": late_data.Look(hours=hours) for rule in fleet.rules}
    assert (
        definitions_of(fleet)
        .resolve_job_def("look")
        .execute_in_process(instance=instance, run_config=dg.RunConfig(ops=ops))
        .success
    )
    return last_evaluation(instance, late_data.check_keys(Scope(fleet))[RULE])


def compact(fleet, instance, hour):
    """Compact an hour in Dagster; return what is said of the parts."""
    definitions_of(fleet).resolve_job_def("compact").execute_in_process(
        instance=instance, partition_key=hour.partition_key, raise_on_error=False
    )
    return last_evaluation(instance, dg.AssetCheckKey(parquet.key(ALONE, RULE), WHOLE))


def test_what_a_sweep_found_stays_red_through_looks_at_other_hours_until_it_is_compacted(fleet, instance, put):
    old = ago(30)
    put(old)
    assert not look(fleet, instance, 48).passed
    after = look(fleet, instance, 6)
    assert not after.passed
    assert set(after.metadata["hours"]) == {old.partition_key}
    assert "since 20" in after.description
    compact(fleet, instance, old)
    assert look(fleet, instance, 6).passed


def test_the_green_of_a_later_hour_leaves_the_red_of_an_earlier_one(fleet, instance, aws, put):
    damaged, sound = ago(5), ago(4)
    put(damaged)
    put(sound)
    stray = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix).part_key(RULE, damaged, 3)
    aws.s3.put_object(Bucket=fleet.lake_bucket, Key=stray, Body=b"no part")
    assert not compact(fleet, instance, damaged).passed
    after = compact(fleet, instance, sound)
    assert set(after.metadata["hours"]) == {damaged.partition_key}
    assert not after.passed
    aws.s3.delete_object(Bucket=fleet.lake_bucket, Key=stray)
    assert compact(fleet, instance, damaged).passed


def test_what_the_command_compacts_dagster_learns_from_a_look_and_the_tables_of_vehicles_follow(fleet, instance, put):
    hour = ago(3)
    put(hour)
    tables = dg.evaluate_automation_conditions(definitions_of(fleet), instance, dg.AssetSelection.assets(HOURLY_KEY))
    assert not look(fleet, instance, 6).passed
    settings = {"FLEET_ACCOUNT": fleet.account, "FLEET_BUCKET": fleet.bucket, "FLEET_HOME": fleet.home}
    span = ["--from", hour.partition_key, "--to", hour.next.partition_key, "--processes", "1"]
    assert CliRunner().invoke(fleet_command, ["compact", *span], env={**os.environ, **settings}).exit_code == 0
    assert look(fleet, instance, 6).passed
    look(fleet, instance, 6)
    made = instance.fetch_materializations(
        dg.AssetRecordsFilter(parquet.key(ALONE, RULE), asset_partitions=[hour.partition_key]), limit=10
    ).records
    assert len(made) == 1  # a second look has nothing to tell
    tables = dg.evaluate_automation_conditions(
        definitions_of(fleet), instance, dg.AssetSelection.assets(HOURLY_KEY), cursor=tables.cursor
    )
    assert tables.get_requested_partitions(HOURLY_KEY) == {hour.partition_key}
    seen = instance.fetch_observations(
        dg.AssetRecordsFilter(raw.key(ALONE, RULE), asset_partitions=[hour.partition_key]), limit=1
    ).records
    assert seen
