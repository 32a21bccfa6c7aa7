"""Compaction, rewrite with its switch, purge and looks in processes beside each other and beside readers, killed by SIGKILL at any request or moment."""

import io
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from threading import Timer

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from faulty_s3 import FaultyS3
from test_compaction import RULE
from test_compaction_faults import compact, feed
from writers import AGAIN, LOOK, Writers

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.ledger import Ledger

ACTIONS = ("compact", "rewrite", "purge", "purge", "look")
AT_ONCE, MOMENT_S = 4, 0.8


class Table(DictStore):
    """The lake's bucket, and what of it was wrong at any time."""

    def __init__(self):
        super().__init__()
        self.wrong, self._read = [], {}

    def rows(self, generation=None):
        """The messages of a generation, or of that which readers use, by key and bytes."""
        parts = f"lake/v{generation or self.current}/"
        return Counter(
            row
            for name in [*self.objects]
            if name.startswith(parts) and name.endswith(".parquet")
            for row in self._rows(name)
        )

    @property
    def current(self):
        return max(
            (
                int(name.removeprefix("lake/_current/v"))
                for name in [*self.objects]
                if name.startswith("lake/_current/v")
            ),
            default=1,
        )

    def _rows(self, name):
        if name not in self._read:  # parts never change
            table = pq.read_table(io.BytesIO(self.objects[name][0][1]), columns=["_key", "_payload"])
            self._read[name] = [*zip(table["_key"].to_pylist(), table["_payload"].to_pylist(), strict=True)]
        return self._read[name]

    def put_new(self, key, body):
        before = self.rows() if "/_current/" in key else Counter()
        written = super().put_new(key, body)
        if lost := before - self.rows():
            self.wrong.append(f"after {key} readers see {lost.total()} rows less")
        return written


class Raw(DictStore):
    """The raw bucket, what was ever sent, and which versions were deleted although readers had no row of them."""

    def __init__(self, table):
        super().__init__()
        self.table, self.sent, self.deleted, self.wrong = table, Counter(), 0, []

    def put(self, key, body):
        self.sent[key, body] += 1
        return super().put(key, body)

    def delete(self, versions):
        rows = self.table.rows()
        for version in versions:
            held = [body for each, body in self.objects.get(version.key, []) if each.id == version.id]
            self.deleted += len(held)
            self.wrong += [
                f"{version.key} was deleted without a row" for body in held if (version.key, body) not in rows
            ]
            if held:
                super().delete([version])


class Siege:
    """Processes of every kind on one hour, one after the other killed, while messages come and readers read."""

    def __init__(self, seed, chance):
        self.draw, self.chance = random.Random(seed), chance
        self.table = Table()
        self.raw = Raw(self.table)
        self.killed, self.ended, self.gave_up = Counter(), Counter(), Counter()

    def run(self, *, kills, versions):
        """Return what was done, after one more compaction that nothing disturbs. `wrong` is what broke a promise."""
        feed(self.raw, versions // 2, seed=1)
        with FaultyS3(AT_ONCE + 2, raw=self.raw, lake=self.table) as self.s3, Writers(LOOK) as self.writers:
            self._beset(kills, versions)
            compact(self.s3.url(AT_ONCE + 1))
            rows = self.table.rows()
            faults = sum(sum(door.faults.values()) for door in self.s3.doors)
        wrong = [
            *self.raw.wrong,
            *self.table.wrong,
            *[f"{row} is there {rows[row]} times" for row in self.raw.sent | rows if rows[row] != self.raw.sent[row]],
        ]
        overwritten = [name for name, held in self.table.objects.items() if len(held) > 1]
        figures = {
            "versions": self.raw.sent.total(),
            "deleted": self.raw.deleted,
            "generations": self.table.current,
            "faults": faults,
        }
        return figures | {
            "kills": dict(self.killed),
            "ended": dict(self.ended),
            "gave up": dict(self.gave_up),
            "wrong": wrong + overwritten,
        }

    def _beset(self, kills, versions):
        doors, busy = self.s3.doors[:AT_ONCE], {}
        self._start(self.s3.doors[AT_ONCE], "read", busy)
        while doors or any(action != "read" for _, action, *_ in busy.values()):
            for door in doors:
                self._start(door, self.draw.choice(ACTIONS), busy, killed_too=True)
            feed(self.raw, versions // 2 // kills if doors else 0, self.draw.random())
            doors = [self._ended(busy)]
            if self.killed.total() >= kills:
                doors = []
            elif doors[0] is self.s3.doors[AT_ONCE]:
                self._start(doors.pop(), "read", busy)
        while busy:
            self._ended(busy)

    def _start(self, door, action, busy, *, killed_too=False):
        door.requests.clear()
        door.chance, door.kill_at = self.chance, None
        way = self.draw.choice(["at a request", "at a moment", "not"]) if killed_too else "not"
        if way == "at a request":
            door.kill_at = (
                self.draw.choice([self.draw.randrange(15), self.draw.randrange(100)]),
                self.draw.choice(["before", "after"]),
            )
        pid = self.writers.start(f"http://127.0.0.1:{door.port}", door, action)
        process = os.pidfd_open(pid)  # names this process even after its end
        timer = Timer(self.draw.random() * MOMENT_S, self._kill, [process])
        busy[pid] = door, action, process, timer
        if way == "at a moment":
            timer.start()

    def _kill(self, process):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)

    def _ended(self, busy):
        pid, ending = self.writers.wait()
        door, action, process, timer = busy.pop(pid)
        timer.cancel()
        if timer.is_alive():
            timer.join()
        os.close(process)
        assert ending in {0, -signal.SIGKILL} or (ending == AGAIN and action != "read"), f"{action} ended with {ending}"
        {0: self.ended, AGAIN: self.gave_up}.get(ending, self.killed)[action] += 1
        return door


@pytest.mark.whole
def test_processes_of_every_kind_killed_anywhere_lose_and_double_nothing_and_readers_never_see_less():
    siege = Siege(seed=5, chance=0.01)
    figures = siege.run(kills=12, versions=120)
    assert figures["wrong"] == []
    assert sum(figures["kills"].values()) >= 12
    assert not figures["kills"].get("read")
    ledger = Ledger(siege.table, "lake", RULE)
    assert len(ledger.faults()) <= 1  # whatever was killed, the newest verdict can be read
    assert Lake.current(siege.table, "lake").generation == figures["generations"]
