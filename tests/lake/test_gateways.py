"""A gateway publishes for many vehicles: with FLEET_VEHICLE_NAMED_BY=message a message is of the vehicle that it names, and
the gateway's where it names none, whatever asks.
"""

import base64
import gzip
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from batches import batch_key, packed, record, uuid
from dict_store import DictStore
from test_vehicle_erasure import ELEVEN, NOW, RULE, TEN, Killed, Mortal

from fleet_pipeline.assets.lake.inspection import inspect
from fleet_pipeline.lake.analytics.vehicles import rolled_up, seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.lake.privacy.erase import erase, plan
from fleet_pipeline.lake.privacy.export import export
from fleet_pipeline.lake.privacy.hours import candidates
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.rule import RawName

FLEET = Fleet(vehicle_named_by="message")
A, B, C = "297468000001", "297468000002", "297468000003"
ONE, TWO = "gw-1", "gw-2"
TWELVE = ELEVEN.next

FORMS = [Form(), Form(arrays="elements", several_objects="on"), Form(nested_objects="structs")]


class Gateways:
    """Buckets, and of every object in a message whose it is: it has a token that stands nowhere else."""

    def __init__(self, form=FORMS[0], fleet=FLEET):
        self.raw, self.store, self.form, self.fleet = DictStore(), DictStore(), form, fleet
        self.owners, self.sent, self.bodies = {}, 0, {}

    @property
    def lake(self):
        return Lake.current(self.store, "lake", self.form)

    @property
    def places(self):
        return Places(self.fleet, self.raw, self.store, self.lake)

    def one(self, owner, **fields):
        """An object that is somebody's."""
        token = f"x{len(self.owners)}x"
        self.owners[token] = owner
        return json.dumps(fields | {"token": token})

    def of(self, name, **fields):
        """An object in which a vehicle is named."""
        return self.one(name, serial=name, **fields)

    def send(self, hour, body, client=None, *, key=None):
        self.sent += 1
        name = key or RULE.raw_key(RawName(hour.start_ms + self.sent, uuid(self.sent), client))
        self.raw.put(name, body.encode())
        self.bodies[name] = body.encode()

    def batch(self, hour, *sent):
        """Send messages, each with its client, as one object of a stream."""
        records = []
        for body, client in sent:
            self.sent += 1
            records.append(record(hour.start_ms + self.sent, body.encode(), number=self.sent, client=client))
        self.raw.put(batch_key(RULE, hour.start_ms + self.sent, self.sent), packed(records))

    def compact(self, *hours, index=True):
        for hour in hours:
            compact_hour(self.raw, self.lake, RULE, hour)
            if index:
                seen(self.fleet, self.lake, hour)
        if index:
            rolled_up(self.store, TEN.start.date())

    def erase(self, name=A, **how):
        return erase(self.places, name, NOW, by="somebody", **how)

    def tokens(self, *names):
        return {token for token, owner in self.owners.items() if owner in names}

    def in_raw(self):
        """Every token in every version of the raw objects, packed or in Base64."""
        return Counter(token for versions in self.raw.objects.values() for _, body in versions for token in _said(body))

    def in_rows(self):
        """Every token in the payloads of the current generation, and how often."""
        return Counter(token for row in self.rows() for token in _said(row["_payload"] or b""))

    def in_lake(self):
        """Every token in the lake's bucket, whatever has it."""
        found = set()
        for versions in self.store.objects.values():
            for _, body in versions:
                parquet = body[:4] == b"PAR1"
                found |= _said(str(pq.read_table(io.BytesIO(body)).to_pylist()).encode() if parquet else body)
        return found

    def rows(self):
        parts = [part for parts in self.lake.all_parts(RULE).values() for part in parts]
        return [row for part in parts for row in opened(self.store, part).read().to_pylist()]

    def rows_without(self, *names):
        """Rows of messages that nobody of these has a part of."""
        theirs, rows = self.tokens(*names), self.rows()
        shared = {row["_key"] for row in rows if theirs & _said(repr(row).encode())}
        return _values(row for row in rows if row["_key"] not in shared)


def _values(rows):
    """What rows say, whatever columns their part has besides."""
    return Counter(repr(sorted((name, value) for name, value in row.items() if value is not None)) for row in rows)


def _said(body):
    if body[:2] == b"\x1f\x8b":
        records = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        body = b" ".join(base64.b64decode(each["p"]) for each in records)
    return {token.decode() for token in re.findall(rb"x[0-9]+x", body)}


def made(form=FORMS[0]):
    """Three vehicles behind two gateways, in objects and in batches; one vehicle also speaks for itself."""
    world = Gateways(form)
    for hour in (TEN, ELEVEN):
        for name in (A, B, C):
            for gateway in (ONE, TWO):
                world.send(hour, world.of(name, speed=1.5), gateway)
            world.send(hour, world.of(name, near=A, speed=2), TWO)
        world.send(hour, world.one(ONE, uptime=5, near=A), ONE)
        world.send(hour, world.one(A, speed=3), f"test-thing-{A}")
        world.send(hour, world.of(B, near=A), f"test-thing-{A}")
        world.send(hour, world.one(A, serial=int(A)), ONE)
        world.send(hour, f"[{world.of(A)}, {world.of(B)},{world.one(ONE, uptime=6)}, null]", ONE)
        world.send(hour, f"{world.of(A)}\n{world.of(C)}", TWO)
        world.send(hour, f"[{world.one(A, speed=4)},{world.of(C)}]", f"test-thing-{A}")
        world.send(hour, f"[{world.of(A)},{world.of(A)}]", TWO)
        world.batch(
            hour,
            (world.of(A, speed=1), ONE),
            (world.of(B, near=A), ONE),
            (f"[{world.of(A)},{world.of(C)},{world.one(TWO, uptime=7)}]", TWO),
            (world.one(TWO, uptime=8), TWO),
            (world.of(A), f"test-thing-{C}"),
        )
        world.batch(hour, (world.of(B), TWO), (world.of(C, near=A), ONE))
    world.compact(TEN, ELEVEN)
    return world


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [A, B, C, ONE, TWO])
def test_an_export_has_every_message_that_names_the_vehicle_whoever_published_it_and_nothing_else(form, name, tmp_path):
    world = made(form)
    world.send(TEN, world.of(A, late=True), TWO)
    world.send(TEN, world.one(ONE, late=True), ONE)
    export(FLEET, world.raw, world.lake, name, tmp_path)
    with zipfile.ZipFile(tmp_path / "raw/rule1.zip") as archive:
        raw = [archive.read(each) for each in archive.namelist()]
    assert Counter(token for body in raw for token in _said(body)) == Counter(world.tokens(name))
    rows = pq.read_table(tmp_path / "messages/rule1.parquet").to_pylist()
    assert _said(str(rows).encode()) <= world.tokens(name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [A, ONE])
def test_an_erasure_takes_what_names_the_vehicle_and_leaves_all_else_byte_for_byte(form, name):
    world = made(form)
    theirs, others = world.tokens(name), world.tokens(A, B, C, ONE, TWO) - world.tokens(name)
    apart, planned = world.rows_without(name), plan(world.places, name, NOW)
    clients = {token: row["_client_id"] for row in world.rows() for token in _said(row["_payload"] or b"")}
    kept = [(key, body) for key, body in world.bodies.items() if not theirs & _said(body)]
    erased = world.erase(name)
    assert (erased.clean, erased.removed.messages) == (True, planned.removed.messages)
    for _ in range(2):
        assert not theirs & {*world.in_raw(), *world.in_lake()}
        assert world.in_raw() == Counter(others)
        assert world.in_rows() == Counter(others)
        assert not apart - _values(world.rows())
        assert all([body] == [each for _, each in world.raw.objects[key]] for key, body in kept)
        after = {token: row["_client_id"] for row in world.rows() for token in _said(row["_payload"] or b"")}
        assert after == {token: client for token, client in clients.items() if token in others}
        assert verify_hour(world.raw, world.lake, RULE, TEN).passed
        world.compact(TEN, ELEVEN)
    assert world.erase(name).removed.messages == 0


def test_what_a_gateway_brings_late_of_an_erased_vehicle_becomes_no_row_and_of_others_it_does():
    world = made()
    assert world.erase().clean
    world.send(TEN, world.of(A), TWO)
    world.send(TEN, f"[{world.of(A)},{world.of(B)},{world.one(TWO)}]", TWO)
    world.batch(TEN, (world.of(A), ONE), (world.one(ONE, uptime=1), ONE))
    world.compact(TEN)
    new = replace(world.lake, generation=2)
    for hour in (TEN, ELEVEN):
        rewrite_hour(world.lake, new, RULE, hour)
    assert not world.tokens(A) & world.in_lake()
    assert world.in_rows() == Counter(world.tokens(B, C, ONE, TWO))


@pytest.mark.parametrize("form", FORMS)
def test_the_tables_the_check_and_the_index_know_the_vehicle_and_not_the_gateway(form):
    world = Gateways(form)
    for name in (A, B, A):
        world.send(TEN, world.of(name, speed=1), ONE)
        world.send(ELEVEN, world.of(B, speed=1), ONE)
    world.send(TEN, world.one(ONE, uptime=1), ONE)
    world.compact(TEN, ELEVEN)
    hourly = seen(FLEET, world.lake, TEN).rows.to_pylist()
    assert {row["vehicle"]: row["messages"] for row in hourly} == {A: 2, B: 1}
    assert inspect(FLEET, world.lake, RULE, TEN, world.lake.contract(RULE)).vehicles == 2
    found = candidates(FLEET, world.lake, A)
    assert (found.known, found.unsure) == ((TEN,), (TEN,))  # what is in `_extra` may say a name
    for _ in range(3):
        world.send(TWELVE, world.of(B, speed=1), ONE)
        world.send(TWELVE, world.one(ONE, uptime=1), ONE)
    world.compact(TWELVE)
    hourly = seen(FLEET, world.lake, TWELVE).rows.to_pylist()
    assert {row["vehicle"]: row["messages"] for row in hourly} == {B: 3, ONE: 3}
    assert candidates(FLEET, world.lake, A) == replace(found, searched=3)  # what a gateway says itself costs no search


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("serial", {"serial": int(A)}),
        ("vehicle.id", {"vehicle_id": A}),
        ("vehicle.id", {"vehicle": {"id": A}}),
        ("a_b", {"a": {"b": A}}),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_an_hour_in_which_a_name_stands_beside_its_column_is_looked_into(field, said, form, tmp_path):
    fleet = replace(FLEET, vehicle_field=field)
    world = Gateways(form, fleet)
    names = {"serial": {"serial": B}, "vehicle.id": {"vehicle": {"id": B}}, "a_b": {"a_b": B}}
    for hour in (TEN, ELEVEN):
        for _ in range(4):
            world.send(hour, world.one(B, **names[field]), ONE)
    for _ in range(5):
        world.send(ELEVEN, world.one(A, **said), ONE)
    world.send(TEN, world.one(A, **said), ONE)
    world.compact(TEN, ELEVEN)
    export(fleet, world.raw, world.lake, A, tmp_path)
    with zipfile.ZipFile(tmp_path / "raw/rule1.zip") as archive:
        assert {token for each in archive.namelist() for token in _said(archive.read(each))} == world.tokens(A)
    assert world.erase().clean
    assert not world.tokens(A) & {*world.in_raw(), *world.in_lake()}
    assert world.in_rows() == Counter(world.tokens(B))


def test_an_index_of_another_setting_is_not_trusted_until_it_is_computed_anew(tmp_path):
    world = Gateways(fleet=Fleet())
    for name in (A, B, A):
        world.send(TEN, world.of(name), ONE)
        world.send(ELEVEN, world.of(B), ONE)
    world.compact(TEN, ELEVEN)
    assert export(Fleet(), world.raw, world.lake, A, tmp_path).empty
    assert candidates(FLEET, world.lake, A).hours == [TEN, ELEVEN]
    assert seen(FLEET, world.lake, TEN).written
    assert seen(FLEET, world.lake, ELEVEN).written
    assert (candidates(FLEET, world.lake, A).hours, candidates(FLEET, world.lake, ONE).hours) == ([TEN], [])
    assert candidates(Fleet(), world.lake, A).hours == [TEN, ELEVEN]


def test_a_tombstone_keeps_the_setting_of_its_day():
    world = made()
    assert world.erase().clean
    world.fleet = Fleet()
    world.send(TEN, world.of(A), TWO)
    world.send(TEN, world.of(B), TWO)
    world.compact(TEN)
    assert not world.tokens(A) & world.in_lake()
    assert world.in_rows() == Counter(world.tokens(B, C, ONE, TWO))


def test_what_cannot_be_read_is_the_gateways_and_is_counted_where_it_has_the_name():
    naming = Naming(("serial",), "test-thing-", "message")
    cut = f'{{"serial": "{A}", "cut\n{{"serial": "{A}"}}'.encode()
    assert naming.owners(ONE, cut) == [ONE, A]
    assert naming.apart(ONE, cut, A.__eq__)[:2] == (
        f'{{"serial": "{A}"}}'.encode(),
        f'{{"serial": "{A}", "cut'.encode(),
    )
    assert (naming.unread(ONE, cut, A), naming.unread(f"test-thing-{A}", cut, A)) == (True, False)
    assert naming.apart(f"test-thing-{A}", cut, A.__eq__) == (cut, None, True, False)
    assert naming.apart(ONE, None, ONE.__eq__) == (None, None, True, False)
    assert naming.apart(ONE, b"[]", A.__eq__) == (None, b"[]", False, True)
    assert naming.owners("n/a", b"5") == [None]


def killed(number, when):
    """Kill an erasure at one writing call, go on, and say whether there were so many."""
    world = made()
    apart, others = world.rows_without(A), world.tokens(B, C, ONE, TWO)
    mortal = Mortal((world.raw, world.store), number, when)
    try:
        world.erase()
    except Killed:
        world.compact(TEN)
        assert world.erase().clean
    assert not world.tokens(A) & {*world.in_raw(), *world.in_lake()}
    assert world.in_raw() == world.in_rows() == Counter(others)
    assert not apart - _values(world.rows())
    return mortal.calls >= number


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [3, 6, 9, 12, 15, 18, 22, 27])
def test_killed_at_a_writing_call_an_erasure_behind_gateways_goes_on_and_ends_alike(number, when):
    assert killed(number, when)


@pytest.mark.crash
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_writing_call_an_erasure_behind_gateways_goes_on_and_ends_alike(when):
    number = 1
    while killed(number, when):
        number += 1
    assert number > 30
