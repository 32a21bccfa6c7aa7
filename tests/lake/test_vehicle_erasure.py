"""What was received of a vehicle is gone, wherever it lay, whatever comes beside and wherever it is killed; and of others nothing is."""

import base64
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from batches import batch_key, packed, record
from dict_store import DictStore

from fleet_pipeline.assets.lake.inspection import inspect
from fleet_pipeline.lake.analytics.vehicles import rolled_up, seen
from fleet_pipeline.lake.commit import Appending, standing
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.privacy.erase import erase, plan
from fleet_pipeline.lake.privacy.export import export
from fleet_pipeline.lake.privacy.places import COLUMNS, Places
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FLEET = Fleet()
RULE = FLEET.rules[0]
TEN, ELEVEN = Hour.parse("2026-11-23-10:00"), Hour.parse("2026-11-23-11:00")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B, C = "297468000001", "297468000002", "297468000003"
UUID = "00000000-0000-4000-8000-{:012d}"


class Fleets:
    """Raw objects, a lake and its tables, in dicts."""

    def __init__(self, form=None):
        self.raw, self.store, self.sent = DictStore(), DictStore(), 0
        self.form = form or Form()

    @property
    def lake(self):
        return Lake.current(self.store, "lake", self.form)

    @property
    def places(self):
        return Places(FLEET, self.raw, self.store, self.lake)

    def send(self, hour, body, *, client=None, key=None):
        self.sent += 1
        name = key or RULE.raw_key(RawName(hour.start_ms + self.sent, UUID.format(self.sent), client))
        self.raw.put(name, body if isinstance(body, bytes) else json.dumps(body).encode())
        return name

    def compact(self, *hours):
        for hour in hours:
            compact_hour(self.raw, self.lake, RULE, hour)
            seen(FLEET, self.lake, hour)
        rolled_up(self.store, TEN.start.date())

    def erase(self, name=A, before=NOW, **how):
        return erase(self.places, name, before, by="somebody", **how)

    def rows(self, lake=None):
        """Every row of every hour, but where it lies."""
        lake = lake or self.lake
        return Counter(
            repr(sorted((name, value) for name, value in row.items() if value is not None))
            for parts in lake.all_parts(RULE).values()
            for part in parts
            for row in opened(self.store, part).read().to_pylist()
        )

    def holding(self, *names):
        """Where a text is held: keys, bodies, and what Parquet files say."""
        found = set()
        for bucket in (self.raw, self.store):
            for key, versions in bucket.objects.items():
                for _, body in versions:
                    rows = str(pq.read_table(io.BytesIO(body)).to_pylist()) if key.endswith(".parquet") else ""
                    found |= {key for name in names if name.encode() in body or name in key or name in rows}
        return found


@pytest.fixture
def fleets():
    """Three vehicles in two hours: some messages by the key, some by a field, some late, one key written twice."""
    made = Fleets()
    for hour in (TEN, ELEVEN):
        for number in range(30):
            name = (A, B, C)[number % 3]
            client = f"test-thing-{name}" if number % 2 else None
            made.send(hour, {"serial": name, "speed": number, "of": f"x{name}x"}, client=client)
    made.compact(TEN, ELEVEN)
    for name in (A, B):
        made.send(TEN, {"serial": name, "late": True, "of": f"x{name}x"})
    made.compact(TEN)
    return made


def keys(rows):
    return sorted(re.findall(r"test-rule/rule1/[0-9a-z-]+", " ".join(rows)))


def others(rows):
    return Counter({row: count for row, count in rows.items() if f"x{A}x" not in row})


def test_without_iceberg_tables_the_old_parts_of_an_hour_go_before_the_next_hour_is_written_anew(fleets):
    both, put_new = [], fleets.store.put_new

    def noted(key, body):
        written = put_new(key, body)
        both.append(sum(bool(fleets.lake.replaced(RULE, hour)) for hour in (TEN, ELEVEN)))
        return written

    fleets.store.put_new = noted
    fleets.erase()
    assert max(both) == 1


def test_whoever_reads_between_a_replacing_part_and_the_word_that_it_replaces_has_no_row_twice(fleets, tmp_path):
    put_new = fleets.store.put_new

    class Killed(BaseException):
        pass

    def killed_before_the_word(key, body):
        if "/_from-" in key:
            raise Killed
        return put_new(key, body)

    fleets.store.put_new = killed_before_the_word
    with pytest.raises(Killed):
        fleets.erase()
    fleets.store.put_new = put_new
    assert len(standing(fleets.lake, RULE, TEN)) == len(fleets.lake.parts(RULE, TEN)) - 1
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).doubled == 0
    found = look(fleets.raw, fleets.lake, RULE, TEN)
    assert (found.rows, found.held, found.uncompacted) == (32, 32, 0)
    inspected = inspect(FLEET, fleets.lake, RULE, TEN, fleets.lake.contract(RULE))
    assert inspected.rows == inspected.identities == found.rows
    tmp_path.joinpath("out").mkdir()
    exported = export(FLEET, fleets.raw, fleets.lake, B, tmp_path / "out")
    assert exported.rows[RULE.key] == exported.messages[RULE.key]


def test_nothing_of_the_vehicle_is_left_and_every_row_of_others_is_as_it_was(fleets):
    before = fleets.rows()
    assert len(fleets.holding(A)) > 20
    erased = fleets.erase()
    assert fleets.holding(A) == set()
    assert fleets.rows() == others(before)
    assert (erased.clean, erased.removed.messages, erased.removed.raw_versions) == (True, 21, 21)
    assert (erased.removed.rows, erased.removed.hours) == (21, 2)
    assert erased.searched.looked["raw versions"] == 41
    assert not +erased.searched.mentioned
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed
    assert compact_hour(fleets.raw, fleets.lake, RULE, TEN).rows_added == 0
    assert {row["vehicle"] for row in seen(FLEET, fleets.lake, TEN).rows.to_pylist()} == {B, C}


def test_the_certificate_says_what_went_and_does_not_name_the_vehicle(fleets):
    erased = fleets.erase()
    [[(_, body)]] = [held for key, held in fleets.store.objects.items() if key == erased.certificate]
    said = json.loads(body)
    assert (said["clean"], said["by"], said["removed"]["messages"]) == (True, "somebody", 21)
    assert len(said["removed messages, SHA-256"]) == 21
    assert said["search"]["of the vehicle"] == 0
    assert A not in body.decode()
    assert erased.certificate.removesuffix(".json") + ".txt" in fleets.store.objects


def test_a_plan_says_what_would_go_and_writes_nothing(fleets):
    before = {key: len(held) for bucket in (fleets.raw, fleets.store) for key, held in bucket.objects.items()}
    planned = plan(fleets.places, A, NOW)
    assert (planned.removed.messages, planned.removed.raw_versions, planned.removed.hours) == (21, 21, 2)
    assert planned.removed.requests["PUT"] == planned.removed.requests["DELETE"] == 0
    assert {key: len(held) for bucket in (fleets.raw, fleets.store) for key, held in bucket.objects.items()} == before


def test_a_second_erasure_finds_nothing_and_changes_no_row(fleets):
    fleets.erase()
    before = {key for key in fleets.store.objects if "/v1/" in key}
    again = fleets.erase()
    assert (again.removed.messages, again.removed.parts, again.clean) == (0, 0, True)
    assert {key for key in fleets.store.objects if "/v1/" in key} == before


def test_what_was_received_later_stays(fleets):
    erased = fleets.erase(before=ELEVEN.start)
    assert (erased.clean, erased.removed.messages) == (True, 11)
    assert {key for key in fleets.holding(f"x{A}x") if "hour=10" in key} == set()
    assert sum(f"x{A}x" in row for row in fleets.rows()) == 10


def test_a_message_that_comes_late_or_again_becomes_no_row_and_is_not_missed(fleets):
    fleets.erase()
    before = fleets.rows()
    fleets.send(TEN, {"serial": A, "of": "late"})
    fleets.send(TEN, {"of": "late"}, client=f"test-thing-{A}")
    fleets.send(TEN, {"serial": B, "of": "late"})
    done = compact_hour(fleets.raw, fleets.lake, RULE, TEN)
    assert (done.rows_added, done.erased, done.complete) == (1, 2, True)
    assert len(fleets.rows()) == len(before) + 1
    assert look(fleets.raw, fleets.lake, RULE, TEN).uncompacted == 0
    verified = verify_hour(fleets.raw, fleets.lake, RULE, TEN)
    assert (verified.passed, verified.erased) == (True, 2)
    assert fleets.erase(every_hour=True).removed.raw_versions == 2
    assert fleets.holding(A) == set()


def test_a_purge_takes_late_messages_of_an_erased_vehicle_along(fleets):
    fleets.erase()
    fleets.send(TEN, {"serial": A})
    purge_hour(fleets.raw, fleets.lake, RULE, TEN, now=NOW)
    assert not [key for key in fleets.holding(A) if "test-rule" in key]


def test_a_message_that_was_received_after_the_erasure_is_a_row_as_any(fleets):
    fleets.erase(before=TEN.end)
    fleets.send(ELEVEN, {"serial": A, "of": "new"})
    assert compact_hour(fleets.raw, fleets.lake, RULE, ELEVEN).erased == 0


@pytest.mark.parametrize("form", [Form(), Form(arrays="elements")])
def test_what_others_sent_in_a_shared_message_stays_and_is_a_message_of_its_own(form):
    fleets = Fleets(form)
    fleets.send(TEN, [{"serial": A, "x": 1}, {"serial": B, "x": 2}])
    fleets.send(TEN, {"serial": B, "x": 3})
    fleets.send(TEN, {"serial": B, "x": 4})
    fleets.compact(TEN)
    erased = fleets.erase()
    assert (erased.clean, erased.removed.shared) == (True, 1)
    assert fleets.holding(A) == set()
    assert sum('{"serial": "B", "x": 2}'.replace("B", B) in row for row in fleets.rows()) == 1
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed
    assert fleets.erase().removed.messages == 0


LENIENT = Form(arrays="elements", several_objects="on", lenient_numbers="on")


def of(name, more=""):
    return f'{{"serial":"{name}","of":"x{name}x"{more}}}'


A_INF, B_NAN, B_TWICE = of(A, ',"a":-Inf'), of(B, ',"a":nan'), of(B, ',"b":1,"b":2')


@pytest.mark.whole
@pytest.mark.parametrize("form", [Form(), LENIENT], ids=["default", "lenient"])
@pytest.mark.parametrize(
    ("message", "rest"),
    [
        (f"{of(A)}\n{B_NAN}", B_NAN),
        (f"[{A_INF}, {B_NAN}]", f"[{B_NAN}]"),
        (f"[{of(A)},null]", "[null]"),
        (f"[{of(A)}, {of(B)} ,5]", f"[{of(B)},5]"),
        (f"{of(A)}\n{B_TWICE}", B_TWICE),
        (f"[{of(A)},{of(B)}]\n[{of(B)}]\n[{of(A)}]", f"[{of(B)}]\n[{of(B)}]"),
        (f"{of(B)}\n{of(A)}\n{{cut", f"{of(B)}\n{{cut"),
    ],
)
def test_of_whatever_a_message_is_made_each_object_of_the_vehicle_goes_and_all_else_stays(form, message, rest):
    fleets = Fleets(form)
    fleets.send(TEN, message.encode())
    for number in range(3):
        fleets.send(TEN, {"serial": B, "a": number})
    fleets.compact(TEN)
    erased = fleets.erase()
    assert (erased.clean, erased.removed.shared, erased.removed.undivided) == (True, 1, 0)
    assert fleets.holding(A) == set()
    assert rest.encode() in {body for held in fleets.raw.objects.values() for _, body in held}
    rows = [row for part in fleets.lake.parts(RULE, TEN) for row in opened(fleets.store, part).read().to_pylist()]
    assert rest.encode() in {row["_payload"] for row in rows}
    again = fleets.erase()
    assert (again.clean, again.removed.messages, again.removed.undivided) == (True, 0, 0)
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


@pytest.mark.parametrize("form", [Form(), LENIENT], ids=["default", "lenient"])
def test_what_names_the_vehicle_and_cannot_be_read_stays_and_each_certificate_says_it(form):
    fleets = Fleets(form)
    fleets.send(TEN, f'{of(A)}\n{{"serial":"{A}","cut'.encode())
    fleets.send(TEN, f'[{of(B)},{{"serial":"{A}"'.encode())
    fleets.send(TEN, {"serial": B})
    fleets.compact(TEN)
    said = []
    for _ in range(3):
        erased = fleets.erase()
        [line] = [each for each in text_of(fleets, erased).splitlines() if "cannot be read" in each]
        said.append(
            (erased.clean, erased.removed.undivided, line.rpartition(": ")[0][-3:], len(fleets.holding(f"x{A}x")))
        )
    assert said == [(True, 2, ": 2", 0)] * 3


def test_a_shared_message_that_comes_late_is_a_row_without_the_erased_vehicle(fleets):
    fleets.erase()
    fleets.send(TEN, [{"serial": A, "x": 1}, {"serial": B, "x": 2}])
    compact_hour(fleets.raw, fleets.lake, RULE, TEN)
    assert not [key for key in fleets.holding(A) if "/v1/" in key]
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed
    assert fleets.erase(every_hour=True).removed.shared == 1
    assert fleets.holding(A) == set()
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


def test_a_message_of_another_that_names_the_vehicle_stays_and_is_said(fleets):
    fleets.send(TEN, {"serial": B, "saw": A})
    fleets.send(TEN, f'{{"serial": "{A}", "cut'.encode())
    fleets.compact(TEN)
    erased = fleets.erase()
    assert erased.clean
    assert (erased.searched.mentioned["rows"], erased.searched.mentioned["raw versions"]) == (2, 2)
    assert sum(A in row for row in fleets.rows()) == 2


def test_a_column_that_the_vehicle_has_given_its_name_is_said_in_the_certificate_and_stays(fleets):
    assert fleets.erase().elsewhere[COLUMNS] == "none has it"
    for _ in range(2):
        fleets.send(TEN, {"serial": B, "near": {C: {"km": 3}, f"{C}7": {"km": 1}}})
    fleets.compact(TEN)
    erased = fleets.erase(C)
    assert erased.clean
    assert erased.elsewhere[COLUMNS].startswith("1 columns have it and stay")
    assert f"near_{C}_km" in fleets.lake.contract(RULE).columns


def test_every_version_goes_and_so_do_keys_of_other_forms_and_reports(fleets):
    name = fleets.send(TEN, {"serial": B, "first": True})
    fleets.send(TEN, {"serial": A, "second": True}, key=name)
    fleets.send(TEN, {"serial": A}, key=f"{RULE.raw_prefix}{TEN.start_ms + 7}-copy")
    report = {
        "ruleName": RULE.aws_name,
        "topic": RULE.topic,
        "base64OriginalPayload": base64.b64encode(json.dumps({"serial": A}).encode()).decode(),
        "failures": [],
    }
    key = f"{FLEET.report_prefix(RULE)}{TEN.start_ms}-{UUID.format(9)}"
    fleets.raw.put(key, json.dumps(report).encode())
    fleets.compact(TEN)
    erased = fleets.erase()
    assert (erased.clean, erased.removed.reports) == (True, 1)
    assert fleets.holding(A) == set()
    assert key not in fleets.raw.objects
    assert [version.key for version, _ in fleets.raw.objects[name]] == [name]


@pytest.mark.parametrize("before", [NOW, datetime(2026, 11, 23, 10, 30, tzinfo=UTC)])
def test_keys_that_no_rule_writes_lose_the_vehicles_objects_too_and_nobody_elses(before):
    fleets = Fleets()
    fleets.send(TEN, {"serial": B, "of": f"x{B}x"})
    for place, (name, body) in enumerate(
        [
            ("copy", of(A)),
            ("shared", f"[{of(A)},{of(B)}]"),
            ("theirs", of(B)),
            (f"{UUID.format(7)}-", f"{of(B)}\n{of(A)}"),
            ("cut", f'{{"serial":"{A}","cut'),
        ]
    ):
        fleets.send(TEN, body.encode(), key=f"{RULE.raw_prefix}{TEN.start_ms + place}-{name}")
    late = fleets.send(TEN, of(A).encode(), key=f"{RULE.raw_prefix}{TEN.end_ms - 1}-late")
    fleets.compact(TEN)
    rows, planned = fleets.rows(), plan(fleets.places, A, before, every_hour=True).removed
    erased = fleets.erase(before=before, every_hour=True)
    gone = 4 if before == NOW else 3
    assert (erased.clean, erased.removed.messages, erased.removed.shared, erased.removed.undivided) == (
        True,
        gone,
        2,
        1,
    )
    assert (planned.messages, planned.raw_versions, planned.shared, planned.hours) == (gone, gone, 2, 1)
    assert fleets.holding(f"x{A}x") == (set() if before == NOW else {late})
    bodies = [body for held in fleets.raw.objects.values() for _, body in held]
    assert [bodies.count(each) for each in (of(B).encode(), f"[{of(B)}]".encode())] == [2, 1]
    fleets.compact(TEN)
    assert fleets.rows() == rows
    assert fleets.erase(before=before, every_hour=True).removed.messages == 0


def test_every_generation_loses_the_vehicle_and_none_loses_another(fleets):
    old, new = fleets.lake, fleets.lake.next_generation
    new.begin()
    rewrite_hour(old, new, RULE, TEN)
    before = {lake: fleets.rows(lake) for lake in (old, new)}
    assert fleets.erase().clean
    for lake, rows in before.items():
        assert fleets.rows(lake) == others(rows)
    rewrite_hour(old, new, RULE, ELEVEN)
    new.switch()
    assert fleets.holding(A) == set()
    assert keys(fleets.rows(new)) == keys(fleets.rows(old))


def with_shared(form=None):
    """A fleet whose readers have switched to a second generation, with messages of two vehicles in both: of raw objects of their own and of a batch."""
    fleets = Fleets(form)
    for number in range(3):
        fleets.send(TEN, [{"serial": A, "x": number}, {"serial": B, "x": number}])
        fleets.send(TEN, {"serial": B, "x": 10 + number})
    shared = json.dumps([{"serial": A, "x": 20}, {"serial": B, "x": 20}]).encode()
    records = [record(TEN.start_ms + 900_000, shared, number=900, client="n/a")]
    fleets.raw.put(batch_key(RULE, TEN.start_ms + 900_000, 9), packed(records))
    fleets.compact(TEN)
    old, new = fleets.lake, fleets.lake.next_generation
    new.begin()
    rewrite_hour(old, new, RULE, TEN)
    new.switch()
    return fleets, old, new


def of_b(fleets, lake):
    """What each row of B says, whatever it says of others; the first of an array's rows has the payload of all."""
    rows = [row for part in lake.parts(RULE, TEN) for row in opened(fleets.store, part).read().to_pylist()]
    return sorted(int(x) for row in rows for x in re.findall(rf'"{B}", "x": (\d+)', str(row["_payload"] or b"")))


EVERY_X = [0, 1, 2, 10, 11, 12, 20]


@pytest.mark.parametrize("form", [Form(), Form(arrays="elements")])
@pytest.mark.parametrize("raw", ["is there", "was purged"])
def test_what_others_sent_in_shared_messages_stays_in_former_generations_too(form, raw):
    fleets, old, new = with_shared(form)
    if raw == "was purged":
        fleets.raw.objects.clear()
    assert of_b(fleets, old) == of_b(fleets, new) == EVERY_X
    erased = fleets.erase()
    assert (erased.clean, erased.removed.shared, fleets.holding(A)) == (True, 4, set())
    assert of_b(fleets, old) == of_b(fleets, new) == EVERY_X
    assert keys(fleets.rows(old)) == keys(fleets.rows(new))
    again = fleets.erase()
    assert (again.removed.messages, again.removed.parts) == (0, 0)
    compact_hour(fleets.raw, new, RULE, TEN)
    assert of_b(fleets, old) == of_b(fleets, new) == EVERY_X
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


@pytest.mark.whole
@pytest.mark.parametrize("at", [*range(3, 12), 14, 17])
def test_killed_anywhere_no_generation_is_ever_without_what_others_sent_in_shared_messages(at):
    fleets, old, new = with_shared()
    Mortal((fleets.raw, fleets.store), at, "after")
    with pytest.raises(Killed):
        fleets.erase()
    assert of_b(fleets, old) == of_b(fleets, new) == EVERY_X
    compact_hour(fleets.raw, new, RULE, TEN)
    assert fleets.erase().clean
    assert fleets.holding(A) == set()
    assert [sum(each["removed"][name] for each in certificates(fleets)) for name in ("messages", "shared")] == [4, 4]
    assert of_b(fleets, old) == of_b(fleets, new) == EVERY_X
    assert verify_hour(fleets.raw, new, RULE, TEN).passed


def test_a_rewrite_that_began_before_the_erasure_brings_nothing_back(fleets, monkeypatch):
    old, new = fleets.lake, fleets.lake.next_generation
    new.begin()
    put, done = Appending.put, []

    def erase_first(self, number):
        if not done:
            done.append(True)
            fleets.erase()
        return put(self, number)

    monkeypatch.setattr(Appending, "put", erase_first)
    rewrite_hour(old, new, RULE, TEN)
    assert fleets.holding(A) == set()


@pytest.mark.whole
@pytest.mark.parametrize("moment", ["before it looks", "before it writes", "as it writes"])
def test_a_compaction_beside_an_erasure_brings_nothing_back_and_loses_nothing(fleets, moment):
    fleets.send(TEN, {"serial": A, "of": "beside"})
    fleets.send(TEN, {"serial": B, "of": "beside"})
    done = []

    class Beside(DictStore):
        """A bucket in which somebody erases a vehicle, just as a compaction does something."""

        def act(self):
            if not done:
                done.append(True)
                fleets.erase()

        def put_new(self, key, body):
            if moment == "as it writes" and key.endswith(".parquet"):
                self.act()
            return fleets.store.put_new(key, body)

        def versions(self, prefix, after="", until=""):
            if moment == "before it writes" and "tombstones" in prefix:
                self.act()
            if moment == "before it looks":
                self.act()
            return fleets.store.versions(prefix, after, until)

        def read(self, key, start, stop):
            return fleets.store.read(key, start, stop)

    compact_hour(fleets.raw, Lake(Beside(), "lake"), RULE, TEN)
    assert done
    assert fleets.erase().clean
    assert fleets.holding(A) == set()
    assert sum("beside" in row for row in fleets.rows()) == 1
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


@pytest.mark.whole
@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("moment", ["before it writes", "as it writes", "as it writes, erased before"])
def test_a_shared_message_that_is_compacted_beside_an_erasure_is_one_row_of_the_other_vehicle(moment, is_empty):
    fleets, done = Fleets(), []
    if not is_empty:
        fleets.send(TEN, {"serial": B, "x": 1})
        fleets.send(TEN, {"serial": A, "x": 1})
        fleets.compact(TEN)
    if "erased before" in moment:
        fleets.erase()
    fleets.send(TEN, [{"serial": A, "x": 2}, {"serial": B, "x": 2}])

    class Beside(DictStore):
        """A bucket in which somebody erases a vehicle, just as a compaction does something."""

        def act(self):
            if not done:
                done.append(True)
                fleets.erase(every_hour=True)

        def put_new(self, key, body):
            if "as it writes" in moment and key.endswith(".parquet"):
                self.act()
            return fleets.store.put_new(key, body)

        def versions(self, prefix, after="", until=""):
            if moment == "before it writes" and "tombstones" in prefix:
                self.act()
            return fleets.store.versions(prefix, after, until)

        def read(self, key, start, stop):
            return fleets.store.read(key, start, stop)

    compact_hour(fleets.raw, Lake(Beside(), "lake"), RULE, TEN)
    assert done
    assert fleets.erase(every_hour=True).clean
    compact_hour(fleets.raw, fleets.lake, RULE, TEN)
    assert of_b(fleets, fleets.lake) == ([2] if is_empty else [1, 2])
    assert fleets.holding(A) == set()
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


@pytest.mark.whole
@pytest.mark.parametrize("first", ["the erasure", "the compaction"])
def test_whoever_takes_the_next_part_first_the_vehicles_rows_are_gone_and_nobody_elses(fleets, first):
    """Both have looked and are about to take the same number: the one that comes second looks again."""
    for name in (A, B):
        fleets.send(TEN, {"serial": name, "of": f"x{name}x", "late": "again"})
    wanted, put, done = others(fleets.rows()), fleets.store.put_new, []

    def compact():
        return compact_hour(fleets.raw, fleets.lake, RULE, TEN)

    second, rival = (compact, fleets.erase) if first == "the erasure" else (fleets.erase, compact)

    def rival_first(key, body):
        if key.endswith(".parquet") and "/v1/" in key and not done:
            done.append(key)
            assert key not in fleets.store.objects
            rival()
            assert key in fleets.store.objects, "the rival took another part"
        return put(key, body)

    fleets.store.put_new = rival_first
    second()
    assert done
    compact()
    assert fleets.erase(every_hour=True).clean
    assert fleets.holding(A) == set()
    late = [row for row in fleets.rows() if "again" in row]
    assert (len(late), f"x{B}x" in late[0]) == (1, True)
    assert fleets.rows() == wanted + Counter(late)
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed


def test_two_erasures_at_once_end_as_one_after_the_other(fleets):
    before, done = fleets.rows(), []
    put = fleets.store.put_new

    def other_first(key, body):
        if key.endswith(".parquet") and "/v1/" in key and not done:
            done.append(True)
            assert fleets.erase(B).clean
        return put(key, body)

    fleets.store.put_new = other_first
    assert fleets.erase(A).clean
    assert done
    assert fleets.holding(A, B) == set()
    assert fleets.rows() == Counter({row: count for row, count in others(before).items() if f"x{B}x" not in row})


class Killed(BaseException):
    """A kill: nobody catches it."""


class Mortal:
    """A bucket's writing calls, one of which is the last: before it is done, or after."""

    def __init__(self, buckets, last, when):
        self.calls, self._last, self._when = 0, last, when
        for bucket in buckets:
            bucket.put_new, bucket.delete = self._mortal(bucket.put_new), self._one_by_one(self._mortal(bucket.delete))

    def _mortal(self, call):
        def once(*arguments):
            self.calls += 1
            if self.calls == self._last and self._when == "before":
                raise Killed
            result = call(*arguments)
            if self.calls == self._last:
                raise Killed
            return result

        return once

    @staticmethod
    def _one_by_one(delete):
        def each(versions):
            for version in list(versions):
                delete([version])

        return each


def killed(number, when):
    """Kill an erasure at one writing call, go on, and say whether there were so many."""
    fleets = made()
    before = fleets.rows()
    mortal = Mortal((fleets.raw, fleets.store), number, when)
    try:
        fleets.erase()
    except Killed:
        now = fleets.rows()
        assert set(others(before)) <= set(now), "a row of another vehicle was gone"
    else:
        return False
    assert mortal.calls == number
    compact_hour(fleets.raw, fleets.lake, RULE, TEN)
    assert fleets.erase(before=NOW + timedelta(minutes=1)).clean
    assert fleets.holding(A) == set()
    assert fleets.rows() == others(before)
    assert verify_hour(fleets.raw, fleets.lake, RULE, TEN).passed
    said = certificates(fleets)
    counts = [sum(each["removed"][name] for each in said) for name in ("messages", "raw_versions", "rows", "hours")]
    assert (counts, sum(len(each["removed messages, SHA-256"]) for each in said)) == ([5, 5, 5, 2], 5)
    assert len({hour for each in said for hour in each["rows that stay"]}) == 2
    return True


def certificates(fleets):
    """What each certificate says."""
    names = [key for key in fleets.store.objects if "certificate-" in key and key.endswith(".json")]
    return [json.loads(fleets.store.objects[key][0][1]) for key in names]


def stopped(fleets, bucket, calls, error):
    """Have an erasure end after so many deletions of a bucket."""
    left, delete = [calls], bucket.delete

    def mortal(versions):
        for version in list(versions):
            if not left[0]:
                raise error
            left[0] -= 1
            delete([version])

    bucket.delete = mortal
    with pytest.raises(error):
        fleets.erase(before=NOW + timedelta(minutes=calls))
    del bucket.delete


@pytest.mark.whole
@pytest.mark.parametrize("error", [Killed, OSError])
def test_the_certificate_of_whoever_goes_on_has_what_stopped_runs_removed_and_the_next_one_has_not(error):
    fleets = made()
    bodies = [body for held in fleets.raw.objects.values() for _, body in held if A.encode() in body]
    for bucket, calls in ((fleets.raw, 2), (fleets.raw, 0), (fleets.raw, 2), (fleets.store, 1)):
        stopped(fleets, bucket, calls, error)
    erased = fleets.erase(before=NOW + timedelta(minutes=9))
    [said] = certificates(fleets)
    assert said["removed messages, SHA-256"] == sorted(hashlib.sha256(body).hexdigest() for body in bodies)
    assert (said["removed"]["messages"], said["removed"]["rows"], said["removed"]["raw_versions"]) == (5, 5, 5)
    whole = made()
    whole.erase(before=NOW + timedelta(minutes=9))
    [at_once] = certificates(whole)
    fences = {"parts", "part_bytes"}  # each run that finds something raises one
    assert {**said["removed"], **dict.fromkeys(fences)} == {**at_once["removed"], **dict.fromkeys(fences)}
    assert said["rows that stay"] == at_once["rows that stay"]
    assert (erased.removed.messages, erased.stopped) == (5, 4)
    assert "goes on from 4 runs that were stopped. Removed: 5 messages" in text_of(fleets, erased)
    again = fleets.erase(before=NOW + timedelta(minutes=9))
    assert (again.removed.messages, again.removed.rows, again.stopped) == (0, 0, 0)
    assert not [key for key in fleets.holding(A) if "removed-" in key]


def text_of(fleets, erased):
    return fleets.store.objects[erased.certificate.removesuffix(".json") + ".txt"][0][1].decode()


def made():
    fleets = Fleets()
    for hour in (TEN, ELEVEN):
        for number in range(4):
            name = (A, B)[number % 2]
            fleets.send(hour, {"serial": name, "of": f"x{name}x"})
    fleets.compact(TEN, ELEVEN)
    fleets.send(TEN, {"serial": A, "of": f"x{A}x"})
    fleets.send(TEN, {"serial": B, "of": f"x{B}x"})
    fleets.compact(TEN)
    return fleets


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.whole)])
@pytest.mark.parametrize(
    "number", [1, *(pytest.param(at, marks=pytest.mark.whole) for at in (4, 6, 9, 12, 14, 17, 20, 23))]
)
def test_killed_at_a_writing_call_the_same_command_goes_on_and_ends_alike(number, when):
    assert killed(number, when)


@pytest.mark.crash
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_writing_call_the_same_command_goes_on_and_ends_alike(when):
    number = 1
    while killed(number, when):
        number += 1
    assert number > 20


def batch(fleets, hour, numbers, *, at=0, clients=True):
    """A batch of messages of three vehicles in turn, by their client ids or by a field."""
    records = []
    for number in numbers:
        name = (A, B, C)[number % 3]
        body = json.dumps({"serial": name, "speed": number, "of": f"x{name}x"}).encode()
        client = f"test-thing-{name}" if clients else "n/a"
        records.append(record(hour.start_ms + number * 1000, body, number=number, client=client))
    fleets.raw.put(batch_key(RULE, hour.start_ms + at, at), packed(records))


@pytest.fixture
def batched():
    """Batches of two hours: one by client ids, one by a field, one that goes on into the next hour."""
    made = Fleets()
    batch(made, TEN, range(30))
    batch(made, TEN, range(100, 130), at=100_000, clients=False)
    batch(made, TEN, range(3595, 3610), at=3_595_000)
    made.compact(TEN, ELEVEN)
    return made


def test_a_vehicle_goes_out_of_batches_and_what_others_sent_in_them_stays_row_for_row(batched):
    before = batched.rows()
    assert len(batched.holding(A)) > 3
    erased = batched.erase()
    assert (erased.clean, erased.removed.messages, erased.removed.hours) == (True, 25, 2)
    assert batched.rows() == others(before)
    assert batched.holding(A) == set()
    for hour in (TEN, ELEVEN):
        done = compact_hour(batched.raw, batched.lake, RULE, hour)
        assert (done.rows_added, done.complete) == (0, True)
        assert verify_hour(batched.raw, batched.lake, RULE, hour).passed
    assert batched.rows() == others(before)
    assert batched.erase().removed.messages == 0


def test_what_is_no_record_stays_one_row_when_its_batch_is_written_anew(batched):
    records = [record(TEN.start_ms + 900_000, json.dumps({"serial": A}).encode(), number=900, client="n/a")]
    batched.raw.put(batch_key(RULE, TEN.start_ms + 900_000, 9), packed([b"no record", *records, b"no record"]))
    batched.compact(TEN)
    before = batched.rows()
    assert batched.erase().clean
    batched.compact(TEN)
    after = batched.rows()
    assert sum(count for row, count in after.items() if "no_record" in row) == 2
    assert sum(after.values()) == sum(others(before).values()) - 1


def test_what_is_no_record_and_says_that_it_is_the_vehicles_goes_out_of_its_batch(batched):
    good = record(TEN.start_ms + 900_000, json.dumps({"serial": B}).encode(), number=900, client="n/a")
    lines = [of(A).encode(), good, of(B).encode(), f"saw {A}".encode()]
    batched.raw.put(batch_key(RULE, TEN.start_ms + 900_000, 9), packed(lines))
    batched.compact(TEN)
    before = batched.rows()
    erased = batched.erase()
    assert (erased.clean, erased.searched.mentioned["raw versions"]) == (True, 1)
    held = b"".join(gzip.decompress(body) for each in batched.raw.objects.values() for _, body in each)
    assert (of(A).encode() in held, of(B).encode() in held, f"saw {A}".encode() in held) == (False, True, True)
    batched.compact(TEN)
    assert batched.rows() == others(before)
    assert batched.erase().removed.messages == 0


def test_a_message_of_several_vehicles_in_a_batch_is_taken_apart(batched):
    shared = json.dumps([{"serial": A, "of": f"x{A}x"}, {"serial": B, "of": f"x{B}x"}]).encode()
    records = [record(TEN.start_ms + 900_000, shared, number=900, client="n/a")]
    batched.raw.put(batch_key(RULE, TEN.start_ms + 900_000, 9), packed(records))
    batched.compact(TEN)
    assert batched.erase().clean
    assert batched.holding(A) == set()
    assert sum("900000" in row and f"x{B}x" in row for row in batched.rows()) == 1


def test_messages_of_batches_that_are_no_rows_yet_go_too_and_come_back_in_no_compaction(batched):
    batch(batched, TEN, range(300, 330), at=300_000)
    assert batched.erase(every_hour=True).clean
    assert batched.holding(A) == set()
    batched.compact(TEN, ELEVEN)
    assert batched.holding(A) == set()
    assert sum(f"x{B}x" in row for row in batched.rows()) == 35


def test_a_part_that_an_erasure_wrote_names_the_record_of_its_columns_and_its_hour_brings_no_more_for_it(fleets):
    for _ in range(3):
        fleets.send(TEN, {"serial": A} | {f"first{number}": 1 for number in range(600)})
        fleets.send(ELEVEN, {"serial": B, "later": 1})
    fleets.compact(TEN, ELEVEN)
    assert fleets.erase().clean
    for hour in (TEN, ELEVEN):
        [file] = [opened(fleets.store, part) for part in fleets.lake.parts(RULE, hour)]
        columns = fleets.lake.contract(RULE, file.facts["contract"]).columns
        assert {name for name in file.read().column_names if not name.startswith("_")} == {*columns}
    for _ in range(3):
        fleets.send(TEN, {"serial": B} | {f"second{number}": 1 for number in range(600)})
    before = fleets.lake.contract(RULE).columns
    fleets.compact(TEN)
    assert len(before) > 400
    assert fleets.lake.contract(RULE).columns == before


def test_a_look_at_a_batch_that_comes_after_the_erasure_misses_nothing_of_the_vehicle_from_then_on(batched):
    assert batched.erase().clean
    sent = [record(TEN.start_ms + 900_000, json.dumps({"serial": A}).encode(), number=900, client="n/a")]
    batched.raw.put(batch_key(RULE, TEN.start_ms + 900_000, 9), packed(sent))
    assert look(batched.raw, batched.lake, RULE, TEN).uncompacted == 0
    done = compact_hour(batched.raw, batched.lake, RULE, TEN)
    assert (done.raw_versions, done.complete) == (done.held, True)


@pytest.mark.whole
@pytest.mark.parametrize("at", range(2, 18, 2))
def test_an_erasure_of_batches_that_is_killed_at_any_request_goes_on_and_ends_alike(at):
    run, left = Fleets(), [at]
    batch(run, TEN, range(9))
    batch(run, TEN, range(3598, 3604), at=3_598_000, clients=False)
    run.compact(TEN, ELEVEN)
    before = others(run.rows())
    patched = [(store, name) for store in (run.raw, run.store) for name in ("put_new", "delete")]
    for store, name in patched:
        store.__dict__[name] = killing(getattr(store, name), left, Killed)
    with pytest.raises(Killed):
        run.erase()
    for store, name in patched:
        del store.__dict__[name]
    run.compact(TEN)
    assert run.erase().clean
    assert run.holding(A) == set()
    assert run.rows() == before
    run.compact(TEN, ELEVEN)
    assert run.rows() == before


def killing(call, left, error):
    def killed(*arguments):
        if left[0] <= 0:
            raise error
        left[0] -= 1
        return call(*arguments)

    return killed


def stream_report(*records, name="cdk-test-dev-rule1-1-2026-11-23-10-20-00"):
    lines = [
        {"attemptsMade": 4, "errorCode": "Lambda.X", "errorMessage": "no", "rawData": base64.b64encode(each).decode()}
        for each in records
    ]
    key = f"errors/rule1/processing-failed/2026/11/23/10/{name}-{UUID.format(1)}"
    return key, b"\n".join(json.dumps(line).encode() for line in lines)


def test_a_vehicle_goes_out_of_what_a_stream_reported_and_the_rest_returns(batched):
    theirs, of_b = (
        record(
            TEN.start_ms + 1_200_000 + number,
            json.dumps({"serial": name, "of": f"x{name}x"}).encode(),
            number=number,
            client="n/a",
        )
        for number, name in ((901, A), (902, B))
    )
    batched.raw.put(*stream_report(theirs, of_b))
    erased = batched.erase()
    assert (erased.clean, erased.removed.reports) == (True, 1)
    assert batched.holding(A) == set()
    batched.compact(TEN)
    assert sum(str(TEN.start_ms + 1_200_902) in row for row in batched.rows()) == 1
