"""Readers that look while parts are added: they see a committed state, whole and never an earlier one than before."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import duckdb
import pyarrow.dataset as ds
import pytest
from dict_store import DictStore
from test_compaction import RULE, compact, key

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.model.form import Form

COMMITS, MESSAGES = 15, 40


class Folder(DictStore):
    """A bucket whose objects are files, too, each of which appears at once and whole."""

    def __init__(self, root):
        super().__init__()
        self._root = root

    def put_new(self, name, body):
        new = super().put_new(name, body)
        if new and name.endswith(".parquet"):
            (self._root / name).parent.mkdir(parents=True, exist_ok=True)
            (self._root / "coming").write_bytes(self.objects[name][0][1])
            (self._root / "coming").rename(self._root / name)
        return new


def with_pyarrow(root):
    table = ds.dataset(root / "lake/v1", partitioning="hive", format="parquet").to_table(columns=["_key", "rule"])
    return table.num_rows, len(set(table["_key"].to_pylist()))


def with_duckdb(root):
    files = f"read_parquet('{root}/lake/v1/**/*.parquet', hive_partitioning=true, union_by_name=true)"
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT count(*), count(DISTINCT _key) FROM {files} WHERE rule = '{RULE.key}'"
        ).fetchone()


@pytest.mark.spark
@pytest.mark.parametrize(
    ("form", "altitude"),
    [(Form(), "position_alt"), (Form("structs", "elements"), "position.alt")],
    ids=["columns", "structs"],
)
def test_spark_reads_the_lake_by_its_partitions_and_pushes_predicates_down(spark, form, altitude, tmp_path):
    raw, lake = DictStore(), Lake(Folder(tmp_path), "lake", form=form)
    high = b'{"speed": 3, "position": {"alt": 500.5}, "tags": ["a"]}'
    for payload in (b'{"speed": 12.5, "position": {"lat": 48.1}}', b"null"):
        raw.put(key(1), payload)
    compact(raw, lake)
    for payload in (b'[{"speed": 1, "position": {"lat": 2.5, "alt": 499}}, {"speed": 2}]', high, high):
        raw.put(key(2), payload)
    compact(raw, lake)
    messages = spark.read.option("mergeSchema", "true").parquet(str(tmp_path / "lake/v1"))
    assert (messages.count(), messages.select("_key").distinct().count()) == (6 if form.arrays == "elements" else 5, 5)
    found = messages.where(f"rule = 'rule1' AND hour = 10 AND {altitude} >= 500")
    assert [bytes(row["_payload"]) for row in found.collect()] == [high, high]
    plan = found._jdf.queryExecution().toString()
    assert f"GreaterThanOrEqual({altitude},500.0)" in plan
    assert re.search(r"PartitionFilters: \[.*rule.* = rule1.*hour.* = 10", plan)


@pytest.mark.parametrize("read", [with_pyarrow, with_duckdb])
def test_a_reader_sees_committed_rows_all_of_them_and_none_twice(read, tmp_path):
    figures = reads_during_commits(read, tmp_path, commits=COMMITS)
    assert figures["reads"] >= COMMITS  # one begins with each commit, however slow the machine
    assert figures["wrong"] == 0


def reads_during_commits(read, root, *, commits):
    """Read over and over while parts are added; count the reads, and those that were not a committed state or one older than the last."""
    raw, lake, reading = DictStore(), Lake(Folder(root), "lake"), Semaphore(0)

    def add():
        for offset in range(MESSAGES):
            raw.put(key(offset), b'{"speed": 12.5}')
        compact(raw, lake)

    def add_while_someone_reads():
        for _ in range(commits):
            reading.acquire()
            add()

    add()
    reads, wrong, last = 0, 0, 0
    with ThreadPoolExecutor(1) as writer:
        adding = writer.submit(add_while_someone_reads)
        try:
            while last < MESSAGES * (commits + 1):
                reading.release()
                rows, keys = read(root)
                wrong += rows != keys or rows % MESSAGES != 0 or rows < last
                reads, last = reads + 1, rows
                if adding.done():
                    adding.result()
        finally:
            reading.release(commits)  # a reader that failed keeps no writer waiting
    return {"reads": reads, "wrong": wrong, "states": commits + 1}
