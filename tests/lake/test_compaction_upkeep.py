"""What is done with an hour afterwards: proven, purged, pinned, rewritten; and what a run would do."""

import io
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, compact, key
from test_compaction_hostile import HOSTILE

from fleet_pipeline.lake.contract import Column, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.model.errors import ContractBroken, NotVerified
from fleet_pipeline.model.rule import RawName

LATER = HOUR.end + timedelta(days=1)
PART = "lake/v1/rule=rule1/date=2026-11-23/hour=10/part-00000.parquet"


@pytest.fixture
def raw():
    raw = DictStore()
    for place, (payload, _) in enumerate(HOSTILE.values()):
        raw.put(key(place // 2, bare=True), payload)
    return raw


@pytest.fixture
def lake():
    return Lake(DictStore(), "lake")


def test_an_hour_that_holds_every_version_with_its_bytes_passes_verification(raw, lake):
    compact(raw, lake)
    verified = verify_hour(raw, lake, RULE, HOUR)
    assert verified.passed
    assert (verified.versions, verified.rows) == (len(HOSTILE), len(HOSTILE))


def test_what_is_missing_altered_or_double_in_the_lake_is_found(raw, lake):
    compact(raw, lake)
    table = pq.read_table(io.BytesIO(lake.store.objects[PART][0][1]))
    changed = table.set_column(
        table.schema.get_field_index("_payload"), "_payload", [[b"forged", *table["_payload"].to_pylist()[1:]]]
    )
    for rows, fault in ((table.slice(1), "missing"), (changed, "altered")):
        lake.store.put(PART, written(rows))
        found = verify_hour(raw, lake, RULE, HOUR)
        assert (found.passed, getattr(found, fault), found.examples) == (False, 1, (table["_key"][0].as_py(),))
    lake.store.put(PART, written(table))
    lake.store.put(PART.replace("00000", "00001"), written(table.slice(0, 3)))
    assert verify_hour(raw, lake, RULE, HOUR).doubled == 3


def test_a_purge_deletes_the_proven_versions_and_only_these(raw, lake):
    raw.put(key(3_600_000), b"{}")
    raw.put(key(7), b"[" * (1024 * 1024 + 1))
    compact(raw, lake)
    purged = purge_hour(raw, lake, RULE, HOUR, now=LATER)
    assert (purged.versions, purged.kept) == (len(HOSTILE), 1)
    assert sum(map(len, raw.objects.values())) == 2
    assert verify_hour(raw, lake, RULE, HOUR).rows == len(HOSTILE) + 1
    again = compact(raw, lake)
    assert (again.rows_added, again.put_requests, again.complete) == (0, 0, True)


def test_nothing_is_purged_of_an_hour_that_is_not_over_or_not_proven(raw, lake):
    compact(raw, lake)
    with pytest.raises(NotVerified, match="the hour ends at 2026-11-23T11:00:00"):
        purge_hour(raw, lake, RULE, HOUR, now=HOUR.end - timedelta(seconds=1))
    raw.put(key(9), b'{"late": true}')
    with pytest.raises(NotVerified, match="1 have no row"):
        purge_hour(raw, lake, RULE, HOUR, now=LATER)
    assert raw.requests["DELETE"] == 0


def test_compaction_deletes_nothing_and_asks_only_for_free_keys(raw, lake):
    compact(raw, lake)
    assert raw.requests["PUT"] == raw.requests["DELETE"] == lake.store.requests["DELETE"] == 0
    assert all(len(versions) == 1 for versions in lake.store.objects.values())


def test_an_hour_costs_its_own_pages_whatever_lies_before_it(lake):
    asked = []
    for history in (0, 5000):
        raw = DictStore()
        for number in range(history):
            raw.put(RULE.raw_key(RawName(HOUR.start_ms - 1 - number)), b"")
        for offset in range(1500):
            raw.put(key(offset), b"{}")
        forecast_hour(raw, lake, RULE, HOUR)
        asked.append(raw.requests["LIST"])
    assert asked == [4, 4]  # two pages, one of batches, and one of the folders of shards


def test_a_forecast_says_what_a_run_then_reads_and_writes(raw, lake):
    compact(raw, lake)
    raw.put(key(1), b'{"late": true}')
    forecast, done = forecast_hour(raw, lake, RULE, HOUR), compact(raw, lake)
    assert (forecast.raw_versions, forecast.missing, forecast.rows) == (
        done.raw_versions,
        done.rows_added,
        done.rows_before,
    )
    assert forecast.put_requests == len(done.parts_added)
    assert forecast_hour(raw, lake, RULE, HOUR).put_requests == 0


def test_recorded_columns_keep_their_kind_and_what_does_not_fit_is_counted(lake):
    raw = DictStore()
    raw.put(key(1), b'{"speed": 12, "name": "a"}')
    compact(raw, lake)
    raw.put(key(2), b'{"speed": 12.5, "name": 7, "new": [1.5]}')
    late = compact(raw, replace(lake, new_column_messages=1))
    assert late.statuses == {"partial": 1}
    assert {column.name: column.kind for column in lake.contract(RULE).columns.values()} == {
        "name": "string",
        "speed": "int64",
        "new": "double[]",
    }
    [row] = read(lake, "part-00001")
    assert (row["speed"], row["name"], row["new"], json.loads(row["_extra"])) == (
        None,
        None,
        [1.5],
        {"speed": 12.5, "name": 7},
    )


def test_within_the_first_hour_integers_widen_to_doubles(lake):
    raw = DictStore()
    for offset in range(20_000):
        raw.put(key(offset), b'{"speed": 12.5}' if offset == 19_999 else b'{"speed": 12}')
    assert compact(raw, lake).statuses == {"ok": 20_000}
    assert lake.contract(RULE).columns["speed"].kind == "double"
    assert {row["speed"] for row in read(lake, "part-00000")} == {12.0, 12.5}


def test_a_record_survives_its_text():
    contract = Contract().adding([Column(("a", "b"), "double[]"), Column(("c",), "json")])
    assert Contract.of_json(contract.to_json(), contract.number) == contract


def test_two_who_record_at_once_end_with_the_columns_of_both(lake):
    one, other = (
        Evidence(2, {(name,): Counter({kind: 2}), ("both",): Counter({kind: 2})})
        for name, kind in (("a", "int64"), ("b", "string"))
    )
    lake.record(RULE, one, lake.form)
    recorded = lake.record(RULE, other, lake.form)
    assert {name: column.kind for name, column in recorded.columns.items()} == {
        "a": "int64",
        "both": "int64",
        "b": "string",
    }
    assert lake.record(RULE, other, lake.form) == lake.contract(RULE) == recorded


def test_a_pinned_contract_takes_no_more_columns_and_none_changes(lake):
    raw = DictStore()
    raw.put(key(1), b'{"speed": 1}')
    compact(raw, lake)
    pinned = lake.pin(RULE, lake.contract(RULE).adding([Column(("soc",), "double")]))
    assert pinned.pinned
    assert lake.pin(RULE, pinned) == pinned
    raw.put(key(2), b'{"speed": 2, "soc": 50, "new": 1}')
    assert compact(raw, lake).statuses == {"partial": 1}
    [row] = read(lake, "part-00001")
    assert (row["soc"], "new" in row, row["_extra"]) == (50.0, False, '{"new":1}')
    with pytest.raises(ContractBroken, match="- soc double"):
        lake.pin(RULE, Contract({"speed": Column(("speed",), "int64")}))
    with pytest.raises(ContractBroken, match="~ speed int64 -> double"):
        lake.pin(RULE, Contract({**pinned.columns, "speed": Column(("speed",), "double")}))


def test_a_rewrite_makes_a_new_generation_from_parquet_alone_and_readers_switch_when_told(raw, lake):
    compact(raw, lake)
    for number in range(3):
        raw.put(key(500 + number), json.dumps({"a": number + 0.5}).encode())
        compact(raw, lake)
    assert len(lake.parts(RULE, HOUR)) == 4
    reads = raw.requests.copy()
    new = lake.next_generation
    new.pin(RULE, Contract({"a": Column(("a",), "double")}))
    for _ in range(2):
        done = rewrite_hour(lake, new, RULE, HOUR)
        assert (done.rows, done.complete, done.parts_before, done.parts) == (len(HOSTILE) + 3, True, 4, 1)
    assert done.rows_added == 0
    assert raw.requests == reads
    assert verify_hour(raw, new, RULE, HOUR).passed
    assert {row["a"] for row in read(new, "part-00000")} >= {0.5, 1.5, 2.5}
    assert Lake.current(lake.store, "lake") == lake
    new.switch()
    new.switch()
    assert Lake.current(lake.store, "lake") == new
    assert len(lake.parts(RULE, HOUR)) == 4
    assert compact(raw, new).put_requests == 0


def test_the_lake_names_the_hours_that_it_holds(raw, lake):
    compact(raw, lake)
    lake.store.put("lake/v1/rule=rule1/date=2026-11-23/_SUCCESS", b"")
    assert lake.hours(RULE) == [HOUR]


def written(table):
    body = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(
            {"fleet_pipeline": json.dumps({"rows": table.num_rows, "versions": table.num_rows})}
        ),
        body,
    )
    return body.getvalue()


def read(lake, part):
    [body] = [
        versions[0][1] for name, versions in lake.store.objects.items() if name.startswith(lake.root) and part in name
    ]
    return pq.read_table(io.BytesIO(body)).to_pylist()
