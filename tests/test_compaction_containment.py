"""Whatever happens in an hour ends this hour only, with an error that says so."""

import errno
import os

import pytest

from fleet_pipeline.compaction.containment import contained
from fleet_pipeline.errors import Defect, NoRoom, PartsMissing


def deeper(depth):
    return deeper(depth + 1)


UNFORESEEN = {
    "recursion": lambda: deeper(0),
    "a key": lambda: {}["missing"],
    "a type": lambda: None + 1,
    "an operating system's error that is no matter of room": lambda: os.kill(2**22 + 1, 0),
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


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "Permission denied")], ids=repr
)
def test_a_machine_without_room_is_said_as_such_and_may_have_some_later(error):
    with pytest.raises(NoRoom, match="TMPDIR") as no_room, contained("hour"):
        raise error
    assert no_room.value.retryable


def test_an_error_of_ours_and_a_stop_go_through():
    with pytest.raises(PartsMissing), contained("hour"):
        raise PartsMissing("hour", ("part-00001.parquet",))
    with pytest.raises(KeyboardInterrupt), contained("hour"):
        raise KeyboardInterrupt
