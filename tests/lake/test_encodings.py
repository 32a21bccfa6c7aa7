"""Messages that are no JSON become rows like any others: what JSON cannot say by one rule, hostile bytes as statuses, the payload as it came."""

import gzip
import json
import random
import struct
import tempfile
from datetime import UTC, datetime

import cbor2
import msgspec
import pytest
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st
from protobuf import described, telemetry

from fleet_pipeline.lake.encodings import UNPACKED, _entries, _held, reader
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.memory import PARSED_BYTES, blocks_of, parsed_bytes
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.lake.payload import DEPTH, Status, judged
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Encoding
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B = "297468000001", "297468000002"
PACK = {"cbor": cbor2.dumps, "msgpack": msgspec.msgpack.encode}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def read(kind, payload):
    return reader(Encoding(kind))(payload)


@pytest.fixture
def descriptor(tmp_path):
    file = tmp_path / "acme.desc"
    file.write_bytes(described())
    return str(file)


@pytest.fixture
def protobuf(descriptor):
    return reader(Encoding("protobuf", descriptor, "acme.Telemetry"))


@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.sampled_from(sorted(PACK)))
def test_what_json_can_say_is_read_as_it_was_meant(message, kind):
    assert json.loads(read(kind, PACK[kind](message))) == message


@given(st.binary(max_size=60), st.sampled_from(["gzip", "cbor", "msgpack"]))
def test_no_bytes_raise(payload, kind):
    assert isinstance(read(kind, payload), bytes | Status)


@given(VALUES)
def test_fields_are_counted_as_they_are_written(value):
    assert _entries(msgspec.msgpack.encode(value)) == _held(value)


SAID = {
    "bytes": (b"\x00\xff", "AP8="),
    "not a number": (float("nan"), "NaN"),
    "infinity": (float("-inf"), "-Infinity"),
    "a large number": (2**64 - 1, 2**64 - 1),
    "nothing": (None, None),
    "nested": ({"a": [float("inf"), {"b": b"x"}]}, {"a": ["Infinity", {"b": "eA=="}]}),
}


@pytest.mark.parametrize("kind", sorted(PACK))
@pytest.mark.parametrize("what", SAID)
def test_what_json_cannot_say_becomes_what_it_can(kind, what):
    value, wanted = SAID[what]
    assert json.loads(read(kind, PACK[kind]({"x": value}))) == {"x": wanted}


@pytest.mark.parametrize("kind", sorted(PACK))
def test_names_that_are_no_texts_are_the_texts_that_json_writes(kind):
    assert json.loads(read(kind, PACK[kind]({1: "a", b"\xff": "b", 1.5: "c"}))) == {"1": "a", "/w==": "b", "1.5": "c"}
    assert json.loads(read(kind, PACK[kind]({True: "a", None: "b", (1, "x"): "c"}))) == {
        "true": "a",
        "null": "b",
        '[1,"x"]': "c",
    }


CBOR = {
    "a tag": (b"\xa1\x61t\xc1\x1a\x6a\x00\x00\x00", {"t": 1778384896}),
    "a tag that nobody knows": (b"\xa1\x61t\xda\x00\x12\x34\x56\xa1\x61a\x01", {"t": {"a": 1}}),
    "the mark of CBOR": (b"\xd9\xd9\xf7\xa1\x61a\x01", {"a": 1}),
    "a bignum": (b"\xa1\x61n\xc2\x49\x01" + b"\0" * 8, {"n": 2**64}),
    "a large negative": (b"\xa1\x61n\x3b" + b"\xff" * 8, {"n": -(2**64)}),
    "undefined": (b"\xa1\x61u\xf7", {"u": None}),
    "a simple value": (b"\xa1\x61s\xf8\x20", {"s": 32}),
    "half a float": (b"\xa1\x61h\xf9\x3e\x00", {"h": 1.5}),
    "without a length": (b"\xbf\x61a\x9f\x01\x02\xff\xff", {"a": [1, 2]}),
    "a set": (b"\xa1\x61s\xd9\x01\x02\x82\x01\x02", {"s": [1, 2]}),
    "what shares itself": (b"\xa1\x61s\xd8\x1c\x81\xd8\x1d\x00", {"s": [0]}),
    "a bigfloat that would never end": (
        b"\xa1\x61f\xc5\x82\x1b" + b"\x7f" + b"\xff" * 7 + b"\x01",
        {"f": [2**63 - 1, 1]},
    ),
}


@pytest.mark.parametrize("what", CBOR)
def test_of_a_tag_the_content_counts(what):
    payload, wanted = CBOR[what]
    assert json.loads(read("cbor", payload)) == wanted


def test_instants_and_extensions_of_messagepack():
    assert json.loads(read("msgpack", b"\x81\xa1t\xd6\xff\x00\x00\x00\x01")) == {"t": "1970-01-01T00:00:01Z"}
    assert json.loads(read("msgpack", b"\x81\xa1e\xd4\x05\xff")) == {"e": "/w=="}
    assert json.loads(read("msgpack", b"\x81\xa1f" + b"\xca" + struct.pack(">f", 0.5))) == {"f": 0.5}


STATUSES = {
    "twice, cbor": ("cbor", b"\xa2\x61a\x01\x61a\x02", Status.DUPLICATE_NAMES),
    "twice, msgpack": ("msgpack", b"\x82\xa1a\x01\xa1a\x02", Status.DUPLICATE_NAMES),
    "twice within, msgpack": ("msgpack", b"\x81\xa1x\x92\x01\x82\xa1a\x01\xa1a\xca\0\0\0\0", Status.DUPLICATE_NAMES),
    "two that read alike": ("cbor", cbor2.dumps({None: 1, "null": 2}), Status.DUPLICATE_NAMES),
    "deep, cbor": ("cbor", b"\x81" * 100_000, Status.TOO_DEEP),
    "deep, msgpack": ("msgpack", b"\x91" * 100_000 + b"\x01", Status.TOO_DEEP),
    "half, cbor": ("cbor", b"\xa1\x61", Status.MALFORMED),
    "half, msgpack": ("msgpack", b"\x81\xa1", Status.MALFORMED),
    "more behind, cbor": ("cbor", b"\xa0\xa0", Status.MALFORMED),
    "more behind, msgpack": ("msgpack", b"\x80\x80", Status.MALFORMED),
    "no such byte, msgpack": ("msgpack", b"\xc1", Status.MALFORMED),
    "a break, cbor": ("cbor", b"\xff", Status.MALFORMED),
    "no UTF-8, cbor": ("cbor", b"\x61\xff", Status.MALFORMED),
    "no UTF-8, msgpack": ("msgpack", b"\xa1\xff", Status.MALFORMED),
    "an array that is not there, cbor": ("cbor", b"\x9b\x7f" + b"\xff" * 7, Status.MALFORMED),
    "an array that is not there, msgpack": ("msgpack", b"\xdd\xff\xff\xff\xff", Status.MALFORMED),
    "a text that is not there": ("cbor", b"\x7b\x7f" + b"\xff" * 7, None),
    "a number of 20,000 digits": ("cbor", b"\xa1\x61n\xc2\x59\x20\x00" + b"\xff" * 8192, Status.MALFORMED),
    "half a gzip": ("gzip", gzip.compress(b"{}" * 100)[:-9], Status.MALFORMED),
    "a gzip that lies about its size": ("gzip", gzip.compress(b"x" * 1000)[:-4] + b"\x01\0\0\0", Status.MALFORMED),
    "a gzip bomb": ("gzip", gzip.compress(b"0" * (UNPACKED + 1)), Status.TOO_LARGE),
    "two gzips": ("gzip", gzip.compress(b"{}") + gzip.compress(b"{}"), Status.MALFORMED),
}


@pytest.mark.parametrize("what", STATUSES)
def test_hostile_bytes_are_statuses(what):
    kind, payload, wanted = STATUSES[what]
    said = read(kind, payload)
    assert said is wanted if wanted else said == payload  # what begins as JSON does is read as JSON


def test_a_message_nests_as_deep_as_json_may():
    for kind, pack in PACK.items():
        value = 1
        for _ in range(DEPTH):
            value = [value]
        assert isinstance(read(kind, pack(value)), bytes), kind
    for kind, pack in PACK.items():
        assert judged(read(kind, pack(value)))[0] is Status.NOT_AN_OBJECT, kind
        assert judged(read(kind, pack([value])))[0] is Status.TOO_DEEP, kind


def test_a_field_of_protobuf_is_a_field_by_its_name(protobuf):
    message = telemetry(
        serial=A,
        speed=48.5,
        count=-(2**63),
        large=2**64 - 1,
        raw=b"\xff",
        place={"lat": 1.5},
        codes=[1, 2],
        doors={3: True},
    )
    message.state = 1
    assert json.loads(protobuf(message.SerializeToString())) == {
        "serial": A, "speed": 48.5, "count": -(2**63), "large": 2**64 - 1, "on": False, "raw": "/w==", "place": {"lat": 1.5, "lon": 0.0},
        "state": "DRIVING", "codes": [1, 2], "doors": {"3": True},
    }  # fmt: skip


def test_of_protobuf_a_field_that_can_be_missing_is_missing_and_others_have_their_defaults(protobuf):
    assert json.loads(protobuf(telemetry(serial="x").SerializeToString())) == {
        "serial": "x", "speed": 0.0, "count": 0, "large": 0, "on": False, "raw": "", "state": "PARKED",
    }  # fmt: skip
    assert json.loads(protobuf(telemetry(maybe=0).SerializeToString()))["maybe"] == 0
    assert protobuf(b"") == b""


def test_of_protobuf_what_is_not_described_is_a_field_by_its_number(protobuf):
    said = json.loads(protobuf(b"\xa2\x06\x02hi" + b"\xa8\x06\x05" + b"\xa8\x06\x06" + b"\x58\x07"))
    assert (said["100"], said["101"], said["state"]) == ("aGk=", [5, 6], 7)


@given(st.binary(max_size=60))
def test_no_bytes_of_protobuf_raise(payload):
    with tempfile.NamedTemporaryFile(suffix=".desc") as file:
        file.write(described())
        file.flush()
        assert isinstance(reader(Encoding("protobuf", file.name, "acme.Telemetry"))(payload), bytes | Status)
        reader.cache_clear()


def test_bytes_that_are_no_protobuf_are_malformed(protobuf):
    assert protobuf(b"\x0a\x05a") is Status.MALFORMED
    assert protobuf(b"\xff" * 20) is Status.MALFORMED


def test_a_file_of_descriptors_that_cannot_be_used_is_a_sentence(tmp_path, descriptor):
    half = tmp_path / "half.desc"
    half.write_bytes(described()[:-3])
    with pytest.raises(
        InvalidSetting, match=r"it is no set of descriptors that is whole .DecodeError.; write it by protoc"
    ):
        reader(Encoding("protobuf", str(half), "acme.Telemetry"))
    with pytest.raises(
        InvalidSetting, match=r"it cannot be read .No such file or directory.; each machine that compacts"
    ):
        reader(Encoding("protobuf", str(tmp_path / "none.desc"), "acme.Telemetry"))
    with pytest.raises(InvalidSetting, match=r"describes acme.Place, acme.Telemetry"):
        reader(Encoding("protobuf", descriptor, "acme.Nothing"))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"encoding": "protobuf", "protobuf_descriptor": "x"}, "protobuf_message"),
        ({"encoding": "cbor", "protobuf_message": "x"}, 'it is for messages of encoding = "protobuf"'),
        ({"encoding": "cbor", "bucket": "others", "layout": "firehose"}, "lines are JSON"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(said, why):
    with pytest.raises(InvalidSetting, match=why):
        RuleTable(key="x", **said)


def fleet_of(kind, descriptor="", **said):
    described_by = {"protobuf_descriptor": descriptor, "protobuf_message": "acme.Telemetry"} if descriptor else {}
    return Fleet(rule_keys=(), rule_tables=(RuleTable(key="x", encoding=kind, **described_by, **said),))


def packed(kind, message):
    if kind == "protobuf":
        return telemetry(**message).SerializeToString()
    return gzip.compress(json.dumps(message).encode()) if kind == "gzip" else PACK[kind](message)


class World:
    def __init__(self, fleet):
        self.fleet, self.raw, self.store, self.sent = fleet, DictStore(), DictStore(), 0
        self.rule = fleet.rules[0]

    @property
    def lake(self):
        return Lake.of(self.fleet, self.store)

    def send(self, *bodies):
        for body in bodies:
            self.sent += 1
            name = RawName(HOUR.start_ms + self.sent, f"00000000-0000-4000-8000-{self.sent:012d}")
            self.raw.put(self.rule.raw_key(name), body)

    def compact(self):
        return compact_hour(self.raw, self.lake, self.rule, HOUR)

    def rows(self, lake=None):
        lake = lake or self.lake
        return [row for part in lake.parts(self.rule, HOUR) for row in opened(self.store, part).read().to_pylist()]


KINDS = ["gzip", "cbor", "msgpack", "protobuf"]


@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_an_encoding_are_rows_with_columns_and_their_payload_as_it_came(kind, descriptor):
    world = World(fleet_of(kind, descriptor if kind == "protobuf" else "", new_column_messages=1))
    bodies = [packed(kind, {"serial": f"V{number}", "speed": number + 0.5}) for number in range(5)]
    world.send(*bodies, b'{"serial": "J", "speed": 1}', b"\xc1\xff\x01")
    done = world.compact()
    assert (done.rows, done.complete) == (7, True)
    rows = world.rows()
    assert [row["_payload"] for row in rows] == [*bodies, b'{"serial": "J", "speed": 1}', b"\xc1\xff\x01"]
    assert [(row["serial"], row["speed"]) for row in rows[:6]] == [*((f"V{n}", n + 0.5) for n in range(5)), ("J", 1.0)]
    assert rows[6]["_status"] == "malformed"
    assert verify_hour(world.raw, world.lake, world.rule, HOUR).passed
    new = world.lake.next_generation
    new.begin()
    assert rewrite_hour(world.lake, new, world.rule, HOUR).complete
    assert [row["serial"] for row in world.rows(new)][:6] == [row["serial"] for row in rows][:6]


@pytest.mark.parametrize("kind", KINDS)
def test_a_vehicle_is_erased_whatever_the_encoding_of_its_messages(kind, descriptor):
    world = World(fleet_of(kind, descriptor if kind == "protobuf" else "", new_column_messages=1))
    bodies = {name: packed(kind, {"serial": name, "speed": 1.0}) for name in (A, B)}
    world.send(bodies[A], bodies[B], bodies[A])
    world.compact()
    world.send(bodies[A])  # and one that is no row yet
    places = Places(world.fleet, world.raw, world.store, world.lake)
    erased = erase(places, A, NOW, by="somebody", every_hour=True)
    assert (erased.clean, erased.removed.messages) == (True, 4 - 1)
    assert [row["serial"] for row in world.rows()] == [B]
    assert [body for held in world.raw.objects.values() for _, body in held] == [bodies[B]]
    world.send(bodies[A])
    assert world.compact().rows_added == 0


@pytest.mark.parametrize("kind", ["gzip", "cbor", "msgpack"])
def test_a_message_of_several_vehicles_is_taken_apart_as_json(kind):
    naming = Naming(("serial",)).reading(Encoding(kind))
    shared = packed(kind, [{"serial": A, "x": 1}, {"serial": B, "x": 2}])
    found = naming.apart(None, shared, lambda name: name == A)
    assert (json.loads(found.own), json.loads(found.rest)) == ([{"serial": A, "x": 1}], [{"serial": B, "x": 2}]) or (
        json.loads(found.own),
        json.loads(found.rest),
    ) == ({"serial": A, "x": 1}, {"serial": B, "x": 2})
    again = naming.apart(None, found.rest, lambda name: name == A)
    assert (again.is_theirs, again.stays, again.rest) == (False, True, found.rest)
    whole = naming.apart(None, shared, lambda _: True)
    assert (whole.own, whole.stays) == (shared, False)
    assert naming.owners(None, shared) == [A, B]


def test_private_fields_leave_messages_of_every_encoding():
    fleet = Fleet(
        rule_keys=(),
        rule_tables=(RuleTable(key="x", encoding="cbor", new_column_messages=1),),
        private_columns=("driver",),
    )
    world = World(fleet)
    world.send(cbor2.dumps({"serial": A, "driver": "Eve"}))
    world.compact()
    [row] = world.rows()
    assert "driver" not in row
    assert "Eve" not in str(row["_extra"])


def test_binary_messages_and_those_that_unpack_are_cut_into_blocks_by_what_they_may_take():
    seed = random.Random(1)
    large = [b"\xa0" + seed.randbytes(1_000_000) for _ in range(8)]
    cuts = list(blocks_of(large))
    assert len(cuts) >= 4
    assert sum(cut.stop - cut.start for cut in cuts) == 8
    bombs = [gzip.compress(b" " * UNPACKED) for _ in range(4)]
    assert len(list(blocks_of(bombs))) == 4
    assert parsed_bytes(bombs[0]) > PARSED_BYTES
    assert list(blocks_of([b'{"a":1}', None, cbor2.dumps({"a": 1})])) == [slice(0, 3)]


def test_the_file_of_descriptors_lies_beside_the_settings_and_is_read_before_any_hour(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[[rules]]\nkey = "x"\nencoding = "protobuf"\nprotobuf_descriptor = "acme.desc"\nprotobuf_message = "acme.Place"\n'
    )
    fleet = settings.read_fleet({}, file)
    rule = fleet.rule("x")
    assert rule.encoding == Encoding("protobuf", str(tmp_path / "acme.desc"), "acme.Place")
    with pytest.raises(InvalidSetting, match="each machine that compacts must have it"):
        Compaction.of(fleet, None, rule)
    (tmp_path / "acme.desc").write_bytes(described())
    assert Compaction.of(fleet, None, rule).rule == rule
