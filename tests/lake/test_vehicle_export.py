"""What is held on one vehicle, given out: everything of it, and nothing of anyone else's."""

import hashlib
import json
import zipfile

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.lake.analytics.vehicles import seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.privacy.export import export
from fleet_pipeline.lake.privacy.hours import candidates
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FLEET = Fleet()
RULE = FLEET.rules[0]
TEN, ELEVEN = Hour.parse("2026-11-23-10:00"), Hour.parse("2026-11-23-11:00")
A, B = "297468000001", "297468000002"
UUID = "00000000-0000-4000-8000-{:012d}"
NAMING = Naming(("serial",), "test-thing-")


def send(raw, hour, place, body, client=None):
    name = RULE.raw_key(RawName(hour.start_ms + place, UUID.format(place), client))
    return raw.put(name, body if isinstance(body, bytes) else json.dumps(body).encode())


def compacted(raw, lake, *hours, index=True):
    for hour in hours:
        compact_hour(raw, lake, RULE, hour)
        if index:
            seen(FLEET, lake, hour)


def texts(folder):
    """Every byte of an export, its archives opened."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found += [name.encode() + b"\n" + archive.read(name) for name in archive.namelist()]
        elif path.suffix == ".parquet":
            found += [str(pq.read_table(path).to_pylist()).encode()]
        elif path.is_file():
            found += [path.read_bytes()]
    return b"\n".join(found)


@pytest.mark.parametrize("index", [True, False])
def test_an_export_has_every_message_of_the_vehicle_and_no_byte_of_another(raw, lake, tmp_path, index):
    said = []
    for hour in (TEN, ELEVEN):
        for place in range(20):
            serial = A if place % 4 == 0 else B
            body = json.dumps({"serial": serial, "speed": place, "of": f"only-{serial}"}).encode()
            send(raw, hour, place, body)
            said += [body] if serial == A else []
    compacted(raw, lake, TEN, ELEVEN, index=index)
    done = export(FLEET, raw, lake, A, tmp_path)
    assert (done.messages["rule1"], done.rows["rule1"], done.uncompacted) == (10, 10, 0)
    assert (done.candidates.known, len(done.candidates.unsure)) == (((TEN, ELEVEN), 0) if index else ((), 2))
    with zipfile.ZipFile(tmp_path / "raw/rule1.zip") as archive:
        assert sorted(archive.read(name) for name in archive.namelist()) == sorted(said)
    rows = pq.read_table(tmp_path / "messages/rule1.parquet").to_pylist()
    assert sorted(row["_payload"] for row in rows) == sorted(said)
    assert [json.loads(line)["speed"] for line in (tmp_path / "messages/rule1.ndjson").open()] == [
        row["speed"] for row in rows
    ]
    assert f"only-{B}".encode() not in texts(tmp_path)
    assert B.encode() not in texts(tmp_path)
    if index:
        assert done.derived["vehicles_hourly"] == 2


def test_messages_that_have_no_row_yet_are_given_out_too(raw, lake, tmp_path):
    send(raw, TEN, 1, {"serial": A})
    send(raw, TEN, 2, {"serial": B})
    compacted(raw, lake, TEN)
    send(raw, TEN, 3, {"serial": A, "late": True})
    send(raw, TEN, 4, {"serial": B, "late": True})
    done = export(FLEET, raw, lake, A, tmp_path)
    assert (done.messages["rule1"], done.rows["rule1"], done.uncompacted) == (2, 1, 1)
    assert B.encode() not in texts(tmp_path)


def test_what_cannot_be_read_and_has_the_name_is_left_out_of_an_export_and_counted(raw, lake, tmp_path):
    own = f'{{"serial":"{A}","x":1}}'
    send(raw, TEN, 1, f'{own}\n{{"serial":"{B}","x":nan}}\n[null,{own}]\n{{"serial":"{A}","cut'.encode())
    send(raw, TEN, 2, f'[{{"serial":"{A}"'.encode())
    compacted(raw, lake, TEN)
    done = export(FLEET, raw, lake, A, tmp_path)
    assert (done.messages["rule1"], done.shared, done.undivided) == (1, 1, 2)
    with zipfile.ZipFile(tmp_path / "raw/rule1.zip") as archive:
        assert [archive.read(name) for name in archive.namelist()] == [f"{own}\n[{own}]".encode()]


def test_keys_that_no_rule_writes_are_given_out_too(raw, lake, tmp_path):
    send(raw, TEN, 1, {"serial": A})
    for place, body in enumerate(
        [f'{{"serial":"{A}"}}', f'[{{"serial":"{A}"}},{{"serial":"{B}"}}]', f'{{"of":"{B}"}}']
    ):
        raw.put(f"{RULE.raw_prefix}{TEN.start_ms + place}-copy", body.encode())
    compacted(raw, lake, TEN)
    done = export(FLEET, raw, lake, A, tmp_path)
    assert (done.messages["rule1"], done.rows["rule1"], done.foreign, done.shared) == (3, 1, 2, 1)
    assert f'[{{"serial":"{A}"}}]'.encode() in texts(tmp_path)
    assert B.encode() not in texts(tmp_path)


@pytest.mark.parametrize("form", [Form(), Form(arrays="elements")])
def test_of_a_message_of_several_vehicles_only_ones_own_objects_are_given_out(raw, tmp_path, form):
    lake = Lake(DictStore(), "lake", form=form)
    send(raw, TEN, 1, [{"serial": A, "x": 1}, {"serial": B, "x": 2}, {"serial": A, "x": 3}])
    compacted(raw, lake, TEN)
    done = export(FLEET, raw, lake, A, tmp_path)
    assert (done.messages["rule1"], done.shared) == (1, 1)
    with zipfile.ZipFile(tmp_path / "raw/rule1.zip") as archive:
        [name] = archive.namelist()
        assert json.loads(archive.read(name)) == [{"serial": A, "x": 1}, {"serial": A, "x": 3}]
    assert B.encode() not in texts(tmp_path)


def test_a_range_leaves_out_what_was_received_outside_of_it(raw, lake, tmp_path):
    for hour in (TEN, ELEVEN):
        send(raw, hour, 1, {"serial": A})
    compacted(raw, lake, TEN, ELEVEN)
    assert export(FLEET, raw, lake, A, tmp_path, start=ELEVEN).messages["rule1"] == 1


def test_the_index_is_not_trusted_for_an_hour_that_has_got_more_rows_since(raw, lake):
    send(raw, TEN, 1, {"serial": B})
    send(raw, TEN, 2, {"serial": B})
    compacted(raw, lake, TEN)
    assert candidates(FLEET, lake, A).hours == []
    send(raw, TEN, 3, {"serial": A})
    compact_hour(raw, lake, RULE, TEN)
    assert candidates(FLEET, lake, A).unsure == (TEN,)


def test_other_vehicles_whose_names_begin_with_it_are_no_matches_and_are_named(raw, lake):
    send(raw, TEN, 1, {"serial": A})
    compacted(raw, lake, TEN)
    found = candidates(FLEET, lake, A[:-2])
    assert (found.hours, found.alike) == ([], (A,))


@pytest.mark.parametrize(
    ("client_id", "payload", "owners"),
    [
        (None, b'{"serial": "A"}', ["A"]),
        (f"test-thing-{A}", b'{"serial": "B"}', [A]),
        ("n/a", b'{"serial": "B"}', ["B"]),
        ("factory-7", b"{}", ["factory-7"]),
        (None, b'{"serial": 297468000001}', [A]),
        (None, b'{"serial": 297468000001.0}', [A]),
        (None, b'{"serial": true}', [None]),
        (None, b'{"serial": ""}', [None]),
        (None, b'{"other": "A", "text": "serial A"}', [None]),
        (None, b'[{"serial": "A"}, {"serial": "B"}]', ["A", "B"]),
        (None, b'{"serial": "A"}\n{"serial": "B"}', ["A", "B"]),
        (None, b'{"serial": "A", "speed": nan}', ["A"]),
        (None, b'{"serial": "\\u0041"}', ["A"]),
        (None, b'{"serial": "A"', [None]),
        (None, b"[" * 100_000, [None]),
        (None, None, [None]),
    ],
)
def test_a_message_is_whose_the_key_says_and_else_whose_it_says_itself(client_id, payload, owners):
    assert NAMING.owners(client_id, payload) == owners


def test_a_field_of_an_object_is_found_by_its_path_and_by_the_columns_name():
    naming = Naming(("vehicle", "id"))
    assert naming.owners(None, b'{"vehicle": {"id": "A"}}') == ["A"]
    assert naming.owners(None, b'{"vehicle_id": "A"}') == ["A"]
    assert naming.owners(None, b'{"vehicle": {"name": "A"}}') == [None]


@pytest.mark.parametrize(
    ("payload", "without", "alone"),
    [
        (b'{"serial":"A"}', (False, None), (True, b'{"serial":"A"}')),
        (b'{"serial":"B"}', (True, b'{"serial":"B"}'), (False, None)),
        (b'[{"serial":"A"}, {"serial":"B" }]', (True, b'[{"serial":"B" }]'), (True, b'[{"serial":"A"}]')),
        (b'{"serial":"A"}\n{"serial": "B"}', (True, b'{"serial": "B"}'), (True, b'{"serial":"A"}')),
    ],
)
def test_a_message_is_taken_apart_byte_for_byte(payload, without, alone):
    assert NAMING.without(None, payload, "A".__eq__) == without
    found = NAMING.apart(None, payload, "A".__eq__)
    assert (found.is_theirs, found.own) == alone


def test_what_cannot_be_read_is_nobodys_and_said_where_it_has_the_name():
    cut = b'{"serial": "A", "cut\n{"serial": "A"}'
    assert NAMING.apart(None, cut, "A".__eq__)[:2] == (b'{"serial": "A"}', b'{"serial": "A", "cut')
    assert NAMING.unread(None, cut, "A")
    assert not NAMING.unread(None, cut, "B")
    assert not NAMING.unread("test-thing-B", cut, "A")
    assert not NAMING.unread(None, b'{"serial": "A", "speed": nan}\n[{"serial": "A"}]', "A")
    assert NAMING.unread(None, b"[" * 40 + b'{"serial": "A"}' + b"]" * 40, "A")
    assert NAMING.owners(None, b'{"serial": "A", "serial": "B"}') == ["B"]


@pytest.mark.parametrize("blank", ["", " ", "\n"])
@given(
    st.lists(
        st.sampled_from(
            [
                '{"serial":"A","x":nan}',
                '{"serial":"A","x":-Infinity,"of":"nan, [1]"}',
                '{"serial":"B","x":-0,"y":9e999}',
                '{"serial":"B","b":1,"b":2}',
                "null",
                "5",
                "-inf",
                "[]",
                '["A"]',
            ]
        ),
        min_size=2,
        max_size=5,
    ),
    st.booleans(),
)
def test_whatever_stands_beside_each_other_is_taken_apart_byte_for_byte_and_nothing_is_lost(blank, texts, is_array):
    """An element that is an array is asked for its own elements, and is as it was where none of them is anybody's."""
    payload = (f"[{f'{blank},{blank}'.join(texts)}]" if is_array else "\n".join(texts)).encode()
    own, rest = ([each for each in texts if ('"A",' in each) is wanted] for wanted in (True, False))

    def joined(some):
        return (f"[{','.join(some)}]" if is_array else "\n".join(some)).encode()

    found = NAMING.apart(None, payload, "A".__eq__)
    assert found.own == (None if not own else payload if not rest else joined(own))
    assert found.rest == (None if not rest else payload if not own else joined(rest))


def test_the_command_gives_out_a_folder_with_a_manifest_or_says_in_a_sentence_why_not(fleet, aws, command, tmp_path):
    for bucket in (fleet.bucket, fleet.lake_bucket):
        aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
        aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = fleet.rules[0]
    for place, serial in enumerate((A, B, "a car.7")):
        key = rule.raw_key(RawName(TEN.start_ms + place, UUID.format(place)))
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps({"serial": serial}).encode())
    assert command(fleet, "compact", "--from", TEN.partition_key, "--to", ELEVEN.partition_key)[0] == 0
    aws.iot.create_thing(thingName=fleet.thing_name("297468000009"))
    code, said = command(fleet, "vehicle", "export", "--serial", A, "--out", str(tmp_path / "out"))
    assert (code, "1 messages, 1 rows" in said) == (0, True), said
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    for name, facts in manifest.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == facts["sha256"]
    assert {"README.txt", "registration.json", "raw/rule1.zip", "messages/rule1.parquet"} <= manifest.keys()
    assert (tmp_path / "out" / ".gitignore").read_text() == "*\n"
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    assert b"PRIVATE KEY" not in texts(tmp_path / "out")
    code, said = command(fleet, "vehicle", "export", "--serial", "297468000009", "--out", str(tmp_path / "registered"))
    assert (code, "0 messages" in said and "a registration" in said) == (0, True), said
    code, said = command(fleet, "vehicle", "export", "--serial", "a car.7", "--out", str(tmp_path / "no thing"))
    assert (code, "1 messages" in said and "no registration" in said) == (0, True), said
    code, said = command(
        fleet, "vehicle", "export", "--serial", A, "--from", "2026-11-24", "--through", "2026-11-23", "--out", "never"
    )
    assert (code, "--from must be before" in said) == (1, True), said
    for serial, folder, why in (
        (A, "out", "would be overwritten"),
        ("297468", "prefix", "nothing is held"),
        ("29746*", "wild", "without wildcards"),
        ("297468000099", "unknown", "nothing is held on a vehicle '297468000099'"),
    ):
        code, said = command(fleet, "vehicle", "export", "--serial", serial, "--out", str(tmp_path / folder))
        assert (code, why in said.replace("\n", " ")) == (1, True), said
        assert folder == "out" or not (tmp_path / folder).exists()
