"""What compaction promises of an hour, on buckets in a dict."""

import io
import json
import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from dict_store import DictStore

from fleet_pipeline.lake.contract import DECIMAL, Column, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import Progress, compact_hour
from fleet_pipeline.lake.payload import Status
from fleet_pipeline.model.errors import PartsMissing
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule

RULE = Rule("test-rule", "rule1")
HOUR = Hour.parse("2026-11-23-10:00")
PARTITION = "lake/v1/rule=rule1/date=2026-11-23/hour=10/"


def key(offset_ms, *, client=None, bare=False):
    return RULE.raw_key(RawName(HOUR.start_ms + offset_ms, None if bare else str(uuid.uuid4()), client))


def compact(raw, lake, **options):
    return compact_hour(raw, lake, RULE, HOUR, **options)


def rows(lake, folder):
    """The hour's rows as pyarrow reads them with hive partitions, by the lake's recorded schema."""
    for name, [(_, body), *_] in lake.store.objects.items():
        if name.endswith(".parquet"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(body)
    return (
        ds.dataset(folder / "lake/v1", partitioning="hive").to_table().to_pylist() if (folder / "lake").exists() else []
    )


def test_every_message_of_the_hour_is_one_row_with_what_its_key_says(raw, lake, tmp_path):
    payload = b'{"speed": 12.5, "position": {"lat": 48.1, "lon": 11.6}}'
    name = key(1500, client="test-thing-297468ABCDEF")
    raw.put(name, payload)
    for outside in (
        RULE.raw_key(RawName(HOUR.start_ms - 1, str(uuid.uuid4()))),
        RULE.raw_key(RawName(HOUR.end_ms)),
        "test-rule/rule10/1795428000000",
    ):
        raw.put(outside, payload)
    compacted = compact(raw, lake)
    [row] = rows(lake, tmp_path)
    assert (compacted.raw_versions, compacted.rows, compacted.rows_added, compacted.complete) == (1, 1, 1, True)
    assert compacted.parts_added == (f"{PARTITION}part-00000.parquet",)
    assert {field: row[field] for field in ("_key", "_topic", "_client_id", "_status", "_payload", "_extra")} == {
        "_key": name,
        "_topic": "test-rule/rule1",
        "_client_id": "test-thing-297468ABCDEF",
        "_status": "ok",
        "_payload": payload,
        "_extra": None,
    }
    assert row["_ts"].isoformat() == "2026-11-23T10:00:01.500000+00:00"
    assert (row["speed"], row["position_lat"], row["position_lon"]) == (12.5, 48.1, 11.6)
    assert (row["rule"], row["date"], row["hour"]) == ("rule1", "2026-11-23", 10)


def test_an_empty_hour_writes_nothing(raw, lake):
    assert compact(raw, lake).rows == 0
    assert lake.store.objects == {}


def test_a_finished_hour_is_not_written_to_again(raw, lake):
    for offset in range(50):
        raw.put(key(offset), b'{"a": 1}')
    first, second = compact(raw, lake), compact(raw, lake)
    assert (first.rows_added, first.put_requests) == (50, 2)
    assert (second.rows_before, second.rows_added, second.rows, second.put_requests, second.parts_added) == (
        50,
        0,
        50,
        0,
        (),
    )


def test_late_messages_are_added_as_one_more_part(raw, lake, tmp_path):
    raw.put(key(10), b'{"a": 1}')
    compact(raw, lake)
    raw.put(key(5), b'{"a": 2, "new": true}')
    late = compact(raw, lake)
    assert late.parts_added == (f"{PARTITION}part-00001.parquet",)
    assert (late.rows_before, late.rows_added, late.rows) == (1, 1, 2)
    assert sorted(row["a"] for row in rows(lake, tmp_path)) == [1, 2]


def test_messages_that_shared_a_key_are_all_rows(raw, lake, tmp_path):
    for number in range(3):
        raw.put(key(7, bare=True), json.dumps({"number": number}).encode())
    compacted = compact(raw, lake)
    assert (compacted.raw_versions, compacted.rows, compacted.recovered_collisions) == (3, 3, 2)
    assert {row["number"] for row in rows(lake, tmp_path)} == {0, 1, 2}
    raw.put(key(7, bare=True), b'{"number": 3}')
    assert compact(raw, lake).rows_added == 1


def test_without_versions_an_overwritten_key_is_one_more_row(lake):
    raw = DictStore(versioned=False)
    raw.put(key(7, bare=True), b'{"number": 0}')
    compact(raw, lake)
    raw.put(key(7, bare=True), b'{"number": 1}')
    assert compact(raw, lake).rows == 2
    assert compact(raw, lake).rows_added == 0


def test_keys_that_no_rule_would_have_written_are_counted_and_never_read(raw, lake):
    forged = [
        f"{RULE.raw_prefix}{HOUR.start_ms + 5}{rest}"
        for rest in ("/x", "-", "-x", "0", ".parquet", "-../../claim-certificate/claim.pem")
    ]
    for name in forged:
        raw.put(name, b'{"speed": 1}')
    raw.put(key(3), b"{}")
    compacted = compact(raw, lake)
    assert (compacted.raw_versions, compacted.foreign_keys, sorted(compacted.foreign_examples)) == (
        1,
        len(forged),
        sorted(forged),
    )
    assert raw.requests["GET"] == 1


def test_a_gap_in_the_parts_stops_the_hour_with_its_reason(raw, lake):
    raw.put(key(1), b"{}")
    lake.store.put(f"{PARTITION}part-00001.parquet", b"")
    with pytest.raises(PartsMissing, match=r"part-00000 onwards without a gap and holds part-00001\.parquet"):
        compact(raw, lake)


def test_objects_of_other_names_in_the_lake_are_not_parts(raw, lake):
    raw.put(key(1), b"{}")
    for name in ("", "_SUCCESS", "forged.parquet", "part-0.parquet"):
        lake.store.put(PARTITION + name, b"junk")
    assert compact(raw, lake).rows == 1


def test_the_same_messages_give_the_same_bytes(raw):
    for offset in range(100):
        raw.put(key(offset), json.dumps({"a": offset, f"b{offset % 7}": "x"}).encode())
    lakes = [Lake(DictStore(), "lake") for _ in range(2)]
    for lake in lakes:
        compact(raw, lake)
    assert len({lake.store.objects[f"{PARTITION}part-00000.parquet"][0][1] for lake in lakes}) == 1


def test_pyarrow_duckdb_pandas_and_polars_read_the_same_rows(raw, lake, tmp_path):
    for offset in range(20):
        raw.put(key(offset), json.dumps({"speed": float(offset), "tags": ["a"], "on": True}).encode())
    compact(raw, lake)
    raw.put(key(30), b'{"speed": 30, "late": "yes"}')
    compact(raw, replace(lake, new_column_messages=1))
    assert sorted(row["speed"] for row in rows(lake, tmp_path)) == [*map(float, range(20)), 30.0]
    files = f"{tmp_path}/lake/v1/**/*.parquet"
    query = f"SELECT count(*), sum(speed), count(late) FROM read_parquet('{files}', hive_partitioning=true, union_by_name=true) WHERE rule='rule1' AND hour=10"
    assert duckdb.sql(query).fetchone() == (21, 220.0, 1)
    assert (
        pd.read_parquet(
            tmp_path / "lake/v1", filters=[("_ts", ">=", pd.Timestamp(HOUR.start_ms + 10, unit="ms", tz="UTC"))]
        ).speed.sum()
        == 175.0
    )
    lazy = pl.scan_parquet(files, hive_partitioning=True, missing_columns="insert", extra_columns="ignore")
    assert lazy.filter(pl.col("date") == pl.date(2026, 11, 23)).select(pl.col("speed").sum()).collect().item() == 220.0


@pytest.mark.parametrize("learnt", [True, False], ids=["learnt", "pinned"])
def test_duckdb_pandas_and_polars_read_ids_of_64_bits_as_they_were_sent(raw, tmp_path, learnt):
    lake, sent = (
        Lake(DictStore(), "lake", form=Form(numbers="exact" if learnt else "double")),
        [2**63, 2**64 - 1, 2**53 + 1, -(2**63), 7],
    )
    if not learnt:
        lake.pin(RULE, Contract(form=lake.form).adding([Column(("id",), DECIMAL), Column(("ids",), f"{DECIMAL}[]")]))
    for offset, number in enumerate([*sent, *sent[:2]]):
        raw.put(key(offset), json.dumps({"id": number, "ids": [number]}).encode())
    compact(raw, lake)
    assert {column.kind for column in lake.contract(RULE).columns.values()} == {DECIMAL, f"{DECIMAL}[]"}
    rows(lake, tmp_path)  # downloads the files
    files, numbers = f"{tmp_path}/lake/v1/**/*.parquet", [Decimal(number) for number in [*sent, *sent[:2]]]
    pairs = [(number, [number]) for number in numbers]
    assert duckdb.sql(f"SELECT id, ids FROM read_parquet('{files}') ORDER BY _key").fetchall() == pairs
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{files}') WHERE id = 18446744073709551615").fetchone() == (
        2,
    )
    frame = pd.read_parquet(tmp_path / "lake/v1").sort_values("_key")
    assert [(one, [*several]) for one, several in zip(frame.id, frame.ids, strict=True)] == pairs
    assert pl.scan_parquet(files).sort("_key").select("id", "ids").collect().rows() == pairs


def test_progress_is_told_as_blocks_are_read(raw, lake):
    told = []
    for offset in (0, 1_800_000):
        raw.put(key(offset), b"{}")
    compact(raw, lake, on_progress=told.append)
    assert [progress.objects for progress in told] == [2]
    assert told[-1].share == pytest.approx(0.5, abs=0.001)
    assert Progress(1000, 10.0, 0.25).seconds_left == 30.0


def test_a_message_too_large_for_aws_iot_is_a_row_without_payload_and_never_downloaded(raw, lake, tmp_path):
    raw.put(key(1), b"[" * (1024 * 1024 + 1))
    compacted = compact(raw, lake)
    [row] = rows(lake, tmp_path)
    assert (row["_status"], row["_payload"], compacted.quarantined) == (Status.TOO_LARGE, None, 1)
    assert raw.requests["GET"] == 0


def test_rows_say_of_a_key_what_the_rule_reads_out_of_it(raw, lake, tmp_path):
    names = [
        RawName(HOUR.start_ms + 1),
        RawName(HOUR.start_ms + 2, str(uuid.uuid4())),
        RawName(HOUR.start_ms + 3, str(uuid.uuid4()), "a:b_c-1"),
    ]
    for name in names:
        raw.put(RULE.raw_key(name), b"{}")
    compact(raw, lake)
    assert [(row["_ts"].timestamp() * 1000, row["_client_id"]) for row in rows(lake, tmp_path)] == [
        (name.millis, name.client_id) for name in names
    ]


def test_a_part_says_what_it_is_and_can_be_searched_by_time(raw, lake):
    for offset in range(100):
        raw.put(key(offset), b'{"speed": 12.5}')
    compact(raw, lake)
    file = pq.ParquetFile(io.BytesIO(lake.store.objects[f"{PARTITION}part-00000.parquet"][0][1]))
    facts = json.loads(file.metadata.metadata[b"fleet_pipeline"])
    assert (facts["rule"], facts["hour"], facts["rows"], facts["contract"]) == ("rule1", HOUR.partition_key, 100, 0)
    columns = {
        file.metadata.row_group(0).column(place).path_in_schema: file.metadata.row_group(0).column(place)
        for place in range(file.metadata.num_columns)
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["_ts"].statistics.max - columns["_ts"].statistics.min == timedelta(milliseconds=99)
    assert columns["speed"].has_column_index
    assert [sorted_by.column_index for sorted_by in file.metadata.row_group(0).sorting_columns] == [
        file.schema_arrow.get_field_index("_key")  # by `_ts` they are only where keys begin with the time
    ]


def test_row_groups_of_large_messages_have_fewer_rows(raw, lake):
    for offset in range(80):
        raw.put(key(offset), b'"' + b"x" * 1_000_000 + b'"')
    compact(raw, lake)
    file = pq.ParquetFile(io.BytesIO(lake.store.objects[f"{PARTITION}part-00000.parquet"][0][1]))
    assert file.metadata.num_rows == 80
    assert file.num_row_groups == 2
