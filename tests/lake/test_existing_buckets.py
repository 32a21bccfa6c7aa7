"""Buckets that other services wrote, generated from their documentation: adopted by guess, each message is a row of its hour."""

import tomllib
from collections import Counter
from datetime import timedelta

import pytest
from dict_store import DictStore
from existing_buckets import COPIED, HOURS, KINDS, made

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.adoption import as_toml, looked_at
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable


def bucket_of(found):
    store = DictStore()
    for number, (key, body) in enumerate(found.objects):
        version = store.put(key, body)
        at = COPIED + timedelta(milliseconds=number)
        store.objects[key][0] = (version._replace(modified=f"{at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"), body)
    return store


def rows_of(store, table):
    """Compact the hours of the messages, those around them and that of copying; return how often each row is there."""
    [said] = tomllib.loads(as_toml(table))["rules"]
    rule, lake, rows = Rule("test-rule", "old", RuleTable(**said)), Lake(DictStore(), "lake"), Counter()
    midnight = HOURS[0].replace(hour=0)
    for start in (midnight, *HOURS, HOURS[-1] + timedelta(hours=1), midnight + timedelta(hours=23), COPIED):
        hour = Hour.of(start)
        assert compact_hour(store, lake, rule, hour).complete
        for part in lake.parts(rule, hour):
            columns = opened(lake.store, part).read(["_payload", "_client_id"]).to_pylist()
            rows.update((hour, row["_payload"], row["_client_id"]) for row in columns)
    return rows


@pytest.mark.parametrize("dirty", [False, True], ids=["clean", "dirty"])
@pytest.mark.parametrize("name", KINDS)
def test_a_bucket_is_read_by_the_guess_from_its_root_and_from_its_prefix(name, dirty):
    kind, found = KINDS[name], made(name, dirty=dirty)
    store = bucket_of(found)
    before = {key: list(versions) for key, versions in store.objects.items()}
    looks = [looked_at(store, "others", prefix, "old") for prefix in {"", f"{kind.prefix}/".lstrip("/")}]
    if kind.is_parquet:
        assert all(each.is_parquet for each in looks)
        return
    assert {each.foreign for each in looks} <= {len(found.foreign), len(found.foreign - {"readme.txt"})}
    for table in {as_toml(each.table): each.table for each in looks}.values():
        rows = rows_of(store, table)
        unread = {at for at in rows if at[1] is None}
        assert sum(rows.pop(at) for at in unread) == found.unread
        assert rows == Counter(
            (Hour.of(at), each, device)
            for at, text, device in found.messages
            for each in (text.split(b"\n") if table.has_lines and not kind.lines else [text])
        )
    assert store.objects == before
    assert store.requests["PUT"] == store.requests["DELETE"] == 0
