"""One bit that flipped anywhere in a part is seen, by a verification and by whoever reads the place, and ends no process."""

import io
import json
import random
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from fleet_pipeline.lake.checksums import LENGTH, MARK
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.model.errors import PartDamaged
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

HOUR = Hour.parse("2026-11-23-10:00")
RULE = Rule("test-rule", "rule1")
MESSAGES = 200


@pytest.fixture
def part(raw, lake):
    """An hour's only part, and its bytes."""
    for number in range(MESSAGES):
        message = {"speed": number + 0.5, "name": f"v{number % 7}", "at": {"lat": 1.25 * number}}
        raw.put(f"{RULE.raw_prefix}{HOUR.start_ms + number}-{UUID(int=number)}", json.dumps(message).encode())
    assert compact_hour(raw, lake, RULE, HOUR).rows_added == MESSAGES
    [found] = lake.parts(RULE, HOUR)
    [(_, body)] = lake.store.objects[found.key]
    return found, body


def flipped(body, seed):
    """A few hundred copies, each with another bit flipped: all parts of the file are among them."""
    chance = random.Random(seed)
    for start in range(0, len(body), 20):
        place = chance.randrange(start, min(start + 20, len(body)))
        damaged = bytearray(body)
        damaged[place] ^= 1 << chance.randrange(8)
        yield place, bytes(damaged)


def test_a_verification_sees_every_bit_that_flipped(raw, lake, part):
    found, body = part
    mark = body.rindex(MARK)
    unseen = []
    for place, damaged in flipped(body, 1):
        lake.store.put(found.key, damaged)
        try:
            verify_hour(raw, lake, RULE, HOUR)
            unseen.append(place)
        except PartDamaged as error:
            assert error.key == found.key  # noqa: PT017
    assert [place for place in unseen if not mark <= place < mark + len(MARK)] == []  # that mark is no row's
    lake.store.put(found.key, body)
    assert verify_hour(raw, lake, RULE, HOUR).passed


def test_a_compaction_over_a_part_with_a_flipped_bit_adds_no_row_twice(raw, lake, part):
    found, body = part
    for _, damaged in flipped(body, 2):
        lake.store.put(found.key, damaged)
        try:
            assert compact_hour(raw, lake, RULE, HOUR).rows_added == 0
        except PartDamaged as error:
            assert error.key == found.key  # noqa: PT017
    assert [each.key for each in lake.parts(RULE, HOUR)] == [found.key]


def test_a_footer_that_would_be_larger_than_memory_is_not_fetched(raw, lake, part):
    found, body = part
    lake.store.put(found.key, body[:-8] + b"\xff\xff\xff\x7f" + body[-4:])
    with pytest.raises(PartDamaged, match="2147483647 bytes"):
        verify_hour(raw, lake, RULE, HOUR)


def test_a_part_without_checksums_is_read_page_by_page(raw, lake, part):
    found, body = part
    start = body.rindex(MARK)
    lake.store.put(found.key, body[:start] + body[start + LENGTH :])
    assert verify_hour(raw, lake, RULE, HOUR).passed
    column = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    damaged = bytearray(body[:start] + body[start + LENGTH :])
    damaged[middle] ^= 1
    lake.store.put(found.key, bytes(damaged))
    with pytest.raises(PartDamaged):
        verify_hour(raw, lake, RULE, HOUR)
