"""A compaction that meets another one at its very write: with real parts, where `test_compaction_schedules.py` tries every order on a model."""

import io

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from test_compaction import PARTITION, compact, key

from fleet_pipeline.lake.layout import Lake


class Met(DictStore):
    """A lake in which something happens just before the first part is written, or to the answer of that write."""

    def __init__(self, happens, *, lost_answer=False):
        super().__init__()
        self._happens, self._lost = happens, lost_answer

    def put_new(self, name, body):
        if not name.endswith(".parquet") or self._happens is None:
            return super().put_new(name, body)
        happens, self._happens = self._happens, None
        happens()
        return super().put_new(name, body) and not self._lost


@pytest.fixture
def raw():
    raw = DictStore()
    for offset in range(10):
        raw.put(key(offset), b'{"speed": 12}')
    return raw


def table(lake):
    bodies = [versions[0][1] for name, versions in sorted(lake.store.objects.items()) if name.endswith(".parquet")]
    return [row for body in bodies for row in pq.read_table(io.BytesIO(body)).to_pylist()]


def test_a_rival_that_was_faster_leaves_nothing_to_add(raw):
    lake = Lake(Met(lambda: compact(raw, lake)), "lake")
    done = compact(raw, lake)
    assert (done.rows, done.rows_added, done.parts_added, done.complete) == (10, 0, (), True)
    assert len(table(lake)) == 10


def test_what_a_rival_did_not_have_is_added_after_its_part(raw):
    fewer = DictStore()
    fewer.objects = dict(list(raw.objects.items())[::2])
    lake = Lake(Met(lambda: compact(fewer, lake)), "lake")
    done = compact(raw, lake)
    assert (done.rows, done.rows_added, done.parts_added) == (10, 5, (f"{PARTITION}part-00001.parquet",))
    assert sorted(row["_key"] for row in table(lake)) == sorted(raw.objects)


def test_a_part_whose_answer_was_lost_is_not_written_twice(raw):
    lake = Lake(Met(lambda: None, lost_answer=True), "lake")
    done = compact(raw, lake)
    assert (done.rows, done.complete) == (10, True)
    assert len(table(lake)) == 10


def test_columns_recorded_between_learning_and_writing_are_respected_and_nothing_is_lost(raw):
    class Recorded(DictStore):
        """The rival's record of the columns comes just before ours."""

        def put_new(self, name, body):
            if name.endswith("v1/rule=rule1/00000.json") and b'"string"' not in body:
                super().put_new(name, body.replace(b'"int64"', b'"string"'))
            return super().put_new(name, body)

    lake = Lake(Recorded(), "lake")
    assert compact(raw, lake).statuses == {"partial": 10}
    assert {(row["speed"], row["_extra"]) for row in table(lake)} == {(None, '{"speed":12}')}
