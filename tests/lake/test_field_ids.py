"""The numbers of columns: in every part, for ever the same, and never another column's."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st
from test_compaction import HOUR, RULE, compact, key

from fleet_pipeline.lake.contract import KINDS, Contract
from fleet_pipeline.lake.field_ids import A_GENERATION, ELEMENT, field_ids
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.model.form import Form

paths = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4).map(tuple)
fields = st.lists(st.tuples(paths, st.sampled_from(sorted({*KINDS} - {"[]"}))), max_size=12)


def numbers(field, path=()):
    """Return the numbers in a file's schema by path, as Arrow reads them."""
    path = (*path, field.name)
    within = []
    if pa.types.is_struct(field.type):
        within = [field.type.field(place) for place in range(field.type.num_fields)]
    elif pa.types.is_list(field.type):
        within = [field.type.value_field.with_name(ELEMENT)]
    found = {path: int(field.metadata[b"PARQUET:field_id"])}
    for each in within:
        found |= numbers(each, path)
    return found


def of_part(lake, number=0):
    [(_, body)] = lake.store.objects[lake.part_key(RULE, HOUR, number)]
    return {path: number for field in pq.read_schema(pa.BufferReader(body)) for path, number in numbers(field).items()}


def filled(form, *messages):
    raw, lake = DictStore(), Lake(DictStore(), "lake", form=form)
    for number, message in enumerate(messages):
        raw.put(key(number), json.dumps(message).encode())
    compact(raw, lake)
    return raw, lake


def test_every_column_field_and_element_of_a_part_has_the_contracts_number():
    for nested in ("columns", "structs"):
        _, lake = filled(Form(nested), *({"at": {"lat": 1.5, "seen": ["a"]}, "speed": 3} for _ in range(4)))
        assert of_part(lake) == field_ids(lake.contract(RULE), 1)


def test_columns_that_come_later_leave_the_numbers_of_others_as_they_are():
    raw, lake = filled(Form("structs"), *({"b": {"x": 1}} for _ in range(4)))
    for number in range(10, 16):
        raw.put(key(number), json.dumps({"a": 1, "b": {"a": 2, "x": 3}}).encode())
    compact(raw, lake)
    before, after = of_part(lake, 0), of_part(lake, 1)
    assert before.items() < after.items()
    assert min(after[path] for path in after.keys() - before.keys()) > max(before.values())


def test_a_new_generation_shares_no_number_with_the_one_before_but_those_that_every_table_has():
    _, old = filled(Form(), *({"speed": number} for number in range(4)))
    new = old.next_generation
    rewrite_hour(old, new, RULE, HOUR)
    shared = of_part(old).items() & of_part(new).items()
    assert {path[0] for path, _ in shared} == {
        "_key",
        "_ts",
        "_topic",
        "_client_id",
        "_version",
        "_status",
        "_payload",
        "_extra",
    }
    assert of_part(new)[("speed",)] == 2 * A_GENERATION + 1


@given(fields, fields, st.sampled_from(["columns", "structs"]))
def test_numbers_are_different_from_each_other_and_stay_whatever_is_added(first, more, nested):
    contract = Contract(form=Form(nested))
    begun = contract.adding([contract.column(*field) for field in first])
    grown = begun.adding([begun.column(*field) for field in more])
    before, after = field_ids(begun, 3), field_ids(grown, 3)
    assert before.items() <= after.items()
    assert len({*after.values()}) == len(after)
    assert max(after.values()) < 4 * A_GENERATION
