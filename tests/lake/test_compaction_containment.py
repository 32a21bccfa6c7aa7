"""Whatever happens in an hour ends this hour only, with an error that says so."""

import errno
import gc
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, compact, key, rows

from fleet_pipeline.lake import rows as rows_of_blocks
from fleet_pipeline.lake.columns import Sheet
from fleet_pipeline.lake.containment import contained
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.memory import SEEK_GARBAGE_AFTER, garbage_seldom_sought
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.rows import HEAD
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import Defect, FolderRefused, NoRoom, PartDamaged, PartsMissing, RecordDamaged
from fleet_pipeline.model.form import Form


def deeper(depth):
    return deeper(depth + 1)


UNFORESEEN = {
    "recursion": lambda: deeper(0),
    "a key": lambda: {}["missing"],
    "a type": lambda: None + 1,
    "an operating system's error that is no matter of room": lambda: os.kill(2**22 + 1, 0),
    "a file that no temporary folder has": lambda: os.chdir("/nowhere/folder"),
}


@pytest.mark.parametrize("raising", UNFORESEEN.values(), ids=UNFORESEEN)
def test_what_nobody_foresaw_is_a_defect_that_names_hour_kind_and_place_and_logs_its_traceback(raising, caplog):
    with pytest.raises(Defect) as defect, contained("rule1 2026-11-23-10:00"):
        raising()
    assert str(defect.value).startswith("rule1 2026-11-23-10:00: a defect of fleet_pipeline")
    assert defect.value.place.startswith("test_compaction_containment.py:")
    assert "Traceback" in caplog.text


def test_what_a_device_wrote_into_an_exception_stays_inert():
    with pytest.raises(Defect) as defect, contained("hour"):
        raise ValueError("\x1b[2J\nforged line")
    assert defect.value.said == "\\x1b[2J\\nforged line"


@pytest.mark.parametrize("form", [Form(), Form(arrays="elements")], ids=["messages", "elements"])
@pytest.mark.parametrize("place", ["judged", "typed"])
def test_a_message_at_which_reading_fails_in_a_way_that_nobody_foresaw_is_a_row_that_says_so_and_its_neighbours_are_read(
    form, place, tmp_path, monkeypatch, caplog
):
    def failing(of):
        def read(payload, **options):
            return {}["unforeseen"] if b"poison" in payload else of(payload, **options)

        return read

    def write(sheet, messages, of=Sheet.write):
        return of(
            sheet, ((status, {}["unforeseen"] if "poison" in message else message) for status, message in messages)
        )

    for name in ("judged", "judged_elements") if place == "judged" else ():
        monkeypatch.setattr(rows_of_blocks, name, failing(getattr(rows_of_blocks, name)))
    if place == "typed":
        monkeypatch.setattr(Sheet, "write", write)
    raw, lake = DictStore(), Lake(DictStore(), "lake", form=form)
    for number in range(9):
        raw.put(key(number), b'{"poison":1}' if number == 4 else b'{"speed":12.5}')
    compact_hour(raw, lake, RULE, HOUR)
    table = rows(lake, tmp_path)
    assert [(row["_status"], row["speed"]) for row in table] == [
        *[("ok", 12.5)] * 4,
        ("defect", None),
        *[("ok", 12.5)] * 4,
    ]
    assert table[4]["_payload"] == b'{"poison":1}'
    assert "a defect of fleet_pipeline" in caplog.text


USED_UP = {
    errno.ENOSPC: "TMPDIR",
    errno.EDQUOT: "TMPDIR",
    errno.EFBIG: "TMPDIR",
    errno.ENOMEM: "memory",
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "ulimit -n",
}


@pytest.mark.parametrize(
    "error", [MemoryError(), *(OSError(number, os.strerror(number)) for number in USED_UP)], ids=repr
)
def test_what_a_machine_has_no_more_of_is_said_with_what_helps_and_may_be_there_later(error):
    with (
        pytest.raises(NoRoom, match=USED_UP.get(getattr(error, "errno", None), "memory")) as no_room,
        contained("hour"),
    ):
        raise error
    assert no_room.value.retryable


NOT_OURS = {
    "a folder that is gone": lambda folder: folder / "gone" / "spool",
    "a file where a folder should be": lambda folder: folder / "file" / "spool",
    "a folder that leads to itself": lambda folder: folder / "loop" / "spool",
}


@pytest.mark.parametrize("place", NOT_OURS.values(), ids=NOT_OURS)
def test_a_temporary_file_that_cannot_be_used_is_neither_a_lack_of_room_nor_a_defect(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FolderRefused, match="TMPDIR") as refused, contained("hour"):
        place(tmp_path).open("wb")
    assert not refused.value.retryable


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO])
def test_a_disk_or_a_folder_that_refuses_is_told_from_one_that_is_full(number, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FolderRefused), contained("hour"):
        raise OSError(number, os.strerror(number), str(tmp_path / "spool"))
    with pytest.raises(Defect), contained("hour"):
        raise OSError(number, os.strerror(number), "/etc/passwd")
    with pytest.raises(Defect), contained("hour"):
        raise OSError(number, os.strerror(number))


def test_an_hour_without_any_folder_for_temporary_files_says_so(raw, monkeypatch):
    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(FolderRefused, match="No usable temporary directory"), contained("hour"):
        compact(raw, Lake(DictStore(), "lake"))


def test_an_error_of_ours_and_a_stop_go_through():
    with pytest.raises(PartsMissing), contained("hour"):
        raise PartsMissing("hour", ("part-00001.parquet",))
    with pytest.raises(KeyboardInterrupt), contained("hour"):
        raise KeyboardInterrupt


DAMAGE = {
    "nothing": lambda _: b"",
    "garbage": lambda _: b"no Parquet at all",
    "another's Parquet": lambda _: parquet(pa.table({"a": [1]})),
    "columns of other types": lambda _: parquet(pa.table([pa.array([1])] * len(HEAD.names), HEAD.names), rows=1),
    "our columns without our footer": lambda _: parquet(HEAD.empty_table()),
    "cut short": lambda body: body[: len(body) // 2],
    "a footer of noise": lambda body: body[:-200] + b"\xff" * 192 + body[-8:],
    "noise in the middle": lambda body: body[:4] + b"\xff" * 300 + body[304:],
}


@pytest.fixture
def raw():
    raw = DictStore()
    for offset in range(50):
        raw.put(key(offset), json.dumps({"speed": offset + 0.5, "name": f"v{offset}"}).encode())
        raw.put(key(offset + 3_600_000), b'{"speed": 1.5}')
    return raw


@pytest.fixture
def lake(raw):
    lake = Lake(DictStore(), "lake")
    compact(raw, lake)
    return lake


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_part_that_is_not_ours_any_more_is_named_by_whoever_reads_it_and_the_next_hour_is_done(damage, raw, lake):
    part = lake.parts(RULE, HOUR)[0]
    [(_, body)] = lake.store.objects[part.key]
    lake.store.put(part.key, damage(body))
    raw.put(key(60), b"{}")
    new = lake.next_generation
    readings = {
        "compaction": lambda: compact(raw, lake),
        "verification": lambda: verify_hour(raw, lake, RULE, HOUR),
        "purge": lambda: purge_hour(raw, lake, RULE, HOUR, now=HOUR.end),
        "forecast": lambda: forecast_hour(raw, lake, RULE, HOUR),
        "rewrite": lambda: rewrite_hour(lake, new, RULE, HOUR),
        "learning": lambda: learnt(lake, new.contract(RULE), RULE, HOUR),
    }
    for name, reading in readings.items():
        with pytest.raises(PartDamaged, match="part-00000") as damaged:
            reading()
        assert damaged.value.key == part.key, name
    assert raw.requests["DELETE"] == 0
    assert compact_hour(raw, lake, RULE, HOUR.next).rows_added == 50


RECORDS = {
    "nothing": b"",
    "no JSON": b"\xff\x00",
    "another JSON": b"[1, 2]",
    "a column without a kind": b'{"pinned": false, "columns": [{"path": ["a"]}]}',
    "a kind of a newer version": b'{"pinned": false, "form": {}, "columns": [{"path": ["a"], "kind": "geography"}]}',
    "a form of a newer version": b'{"pinned": false, "form": {"colour": "red"}, "columns": []}',
    "a path of numbers": b'{"pinned": false, "columns": [{"path": [1], "kind": "double"}]}',
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_of_columns_that_cannot_be_used_is_named_and_nothing_is_written(record, raw, lake):
    name = "lake/_schema/v1/rule=rule1/00000.json"
    lake.store.put(name, record)
    raw.put(key(60), b"{}")
    with pytest.raises(RecordDamaged, match=re.escape(name)):
        compact(raw, lake)
    assert len(lake.parts(RULE, HOUR)) == 1


def test_stray_objects_among_parts_records_and_generations_are_passed_over(raw, lake):
    for stray in (
        "_current/notes.txt",
        "_current/v2",
        "_coming/",
        "_schema/v1/rule=rule1/README",
        "_schema/v1/rule=rule1/0.json",
    ):
        lake.store.put(f"lake/{stray}", b"x")
    for folder in ("date=2026-13-45/hour=10", "date=2026-11-23/hour=77", "date=2026-11-23"):
        lake.store.put(f"lake/v1/rule=rule1/{folder}/part-00000.parquet", b"x")
    raw.put(key(60), b'{"new": 1.5, "speed": 1.5}')
    assert Lake.current(lake.store, "lake") == lake
    assert compact(raw, lake).rows_added == 1
    assert lake.hours(RULE) == [HOUR]
    assert set(lake.contract(RULE).columns) >= {"speed", "name"}


def test_a_folder_that_a_killed_process_left_is_removed_and_that_of_a_living_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = "import os, sys\nfrom fleet_pipeline.lake.workplace import workplace\nwith workplace() as folder:\n    print(folder, flush=True)\n    sys.stdin.read()\n"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    (tmp_path / "fleet-pipeline-of-somebody").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        left = Path(process.stdout.readline().strip())
        assert left.stat().st_mode & 0o077 == 0
        with workplace():
            assert left.exists()
        process.kill()
        process.wait()
    with workplace():
        assert not left.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["fleet-pipeline-of-somebody"]


def test_hours_within_each_other_and_in_threads_leave_the_garbage_collector_as_it_was(raw, lake):
    usual = gc.get_threshold()
    with garbage_seldom_sought:
        assert gc.get_threshold()[0] == SEEK_GARBAGE_AFTER
        compact(raw, lake)
        assert gc.get_threshold()[0] == SEEK_GARBAGE_AFTER
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: compact(raw, lake), range(12)))
    assert gc.get_threshold() == usual


def parquet(table, rows=None):
    body = io.BytesIO()
    pq.write_table(
        table if rows is None else table.replace_schema_metadata({"fleet_pipeline": json.dumps({"rows": rows})}), body
    )
    return body.getvalue()
