"""Who does the units of work: processes of this machine, or a Dask cluster.

A unit is a pure function of the buckets: done twice, or by two at once, it ends as if done once. So an engine needs no
more than to call it at least once, and what it lost is asked for again.
"""

import asyncio
import multiprocessing
import os
import pickle
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib import import_module
from multiprocessing.queues import Queue
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from fleet_pipeline import __version__
from fleet_pipeline.lake.operations.compact_hour import Progress, Unit
from fleet_pipeline.model.errors import EngineDiffers, EngineUnreachable, FleetError, MissingExtra, WorkerLost
from fleet_pipeline.model.plain import plain

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Tell: TypeAlias = Callable[[Progress], None]
_Report: TypeAlias = tuple[Unit, Progress]

ANSWER_S = 60.0
"""Seconds in which a scheduler must answer, and a cluster must have a worker."""

TELL_EVERY = 1.0
"""Seconds between two reports of a worker on one unit."""

AHEAD = 256
"""Units that a cluster is given at once, however few its workers are: more may join."""


class Lost(Exception):
    """An engine lost a unit, and not by a fault of the unit: it is to be asked for again."""


class Work(Protocol[T_co]):
    """What is done to a unit; it can be sent to another process."""

    def __call__(self, unit: Unit, tell: Tell) -> T_co:
        """Do it, and tell how far it is; an error of ours is returned, and not raised."""
        ...


class Engine(Protocol[T_co]):
    """Does units of work, several at once, in an order of its own."""

    ahead: int
    """Units that are worth asking for at once."""

    def submit(self, unit: Unit) -> "Future[Any]":
        """Ask for a unit."""
        ...

    def result(self, done: "Future[Any]") -> T_co | FleetError:
        """Return what came of a unit, or the error by which it ended.

        Raises Lost when the unit must be asked for again, BrokenProcessPool when a process of this machine was killed.
        """
        ...

    def heard(self) -> Iterator[tuple[Unit, Progress]]:
        """Yield what was told of units since this was asked last."""
        ...

    def check(self) -> None:
        """Raise EngineUnreachable when nobody is there who could do a unit."""
        ...


@contextmanager
def engine(work: Work[T], address: str, processes: int | None) -> Iterator[Engine[T]]:
    """Lend the engine of an address: `processes` are processes of this machine, as many as there are cores if nobody
    says how many; anything else is a Dask cluster (`FLEET_ENGINE`).

    At the end no further unit is begun. Raises EngineUnreachable, and MissingExtra where Dask is not installed.
    """
    doing: _Here[T] | _Cluster[T]
    doing = _Here(work, processes or os.cpu_count() or 1) if address == "processes" else _Cluster(work, address)
    try:
        yield doing
    finally:
        doing.end()


def _drained(told: "Queue[_Report] | SimpleQueue[_Report]") -> Iterator[_Report]:
    """Yield what lies in a queue now."""
    with suppress(Empty):
        while True:
            yield told.get_nowait()


class _Here(Generic[T]):
    """Processes of this machine, which end by themselves when this one is killed."""

    def __init__(self, work: Work[T], processes: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.ahead = 2 * processes
        self._reports: Queue[tuple[Unit, Progress]] = spawn.Queue()
        self._pool = ProcessPoolExecutor(processes, spawn, _begin, (self._reports, work))

    def submit(self, unit: Unit) -> "Future[Any]":
        return self._pool.submit(_do_here, unit)

    def result(self, done: "Future[Any]") -> T | FleetError:
        result: T | FleetError = done.result()
        return result

    def heard(self) -> Iterator[tuple[Unit, Progress]]:
        return _drained(self._reports)

    def check(self) -> None:
        """Nothing to look at: a process that is gone breaks the pool."""

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_reports: "Queue[tuple[Unit, Progress]]"
"""In a process that works: where it tells how far it is."""

_work: Work[Any]
"""In a process that works: what it does to each unit. One for all of them, so that they share a session."""


def _begin(reports: "Queue[tuple[Unit, Progress]]", work: Work[Any]) -> None:
    global _reports, _work
    _reports, _work = reports, work
    reports.cancel_join_thread()  # what nobody hears any more does not keep a process from its end
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that began it was killed: nobody would take what it finds, or give
    it more to do.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _do_here(unit: Unit) -> Any:
    return _work(unit, lambda progress: _reports.put((unit, progress)))


@cache
def _dask() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise MissingExtra("Dask (distributed)", "scale") from error


class _Cluster(Generic[T]):
    """A Dask cluster: workers come and go; a unit whose worker died is done by another."""

    ahead = AHEAD

    def __init__(self, work: Work[T], address: str) -> None:
        self._work, self._address = pickle.dumps(work), address
        self._topic = f"fleet-{uuid.uuid4()}"
        self._told: SimpleQueue[tuple[Unit, Progress]] = SimpleQueue()
        self._cluster: Any = None
        self._client: Any = None
        self._alone_since: float | None = None
        self._asked: weakref.WeakSet[Any] = weakref.WeakSet()
        self._deaf = False
        """Whether the scheduler was started anew, and knows no more who listens."""
        self._connect()

    def _connect(self) -> None:
        """Find the scheduler, or start the cluster that the address names by its class."""
        distributed, begun = _dask(), time.monotonic()
        where = self._address.removeprefix("dask://") if "://" in self._address else None
        try:
            if where is None and self._cluster is None:
                module, _, name = self._address.rpartition(".")
                self._cluster = getattr(import_module(module), name)()
            self._client = distributed.Client(
                self._cluster if where is None else where, timeout=ANSWER_S, set_as_default=False
            )
            self._listen()
        except (ImportError, AttributeError, OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            self.end()
            reason = f"{type(error).__name__}: {plain(error, 200)}"
            raise EngineUnreachable(self._address, reason, round(time.monotonic() - begun)) from error

    def _listen(self) -> None:
        self._client.subscribe_topic(self._topic, self._hear)
        self._deaf = False

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        told = event[1]
        self._told.put((Unit.parse(told["unit"]), Progress(told["objects"], told["seconds"], told["share"])))

    def submit(self, unit: Unit) -> "Future[Any]":
        if self._client.status not in ("running", "connecting"):
            self._connect()
        elif self._deaf:
            self._listen()
        asked = self._client.submit(_do_there, __version__, self._work, unit, self._topic, pure=False)
        self._asked.add(asked)
        done: Future[Any] = Future()
        self._client.loop.add_callback(_bring, asked, done)
        return done

    def result(self, done: "Future[Any]") -> T | FleetError:
        try:
            result: T | FleetError = done.result()
        except (CancelledError, asyncio.CancelledError, OSError) as error:  # the scheduler went, or was started anew
            self._deaf = True
            raise Lost from error
        except _dask().scheduler.KilledWorker as error:
            return WorkerLost(plain(error, 300))
        except Exception as error:  # noqa: BLE001 (what a worker cannot even begin, as where this package is missing)
            return EngineDiffers(__version__, f"{type(error).__name__}: {plain(error, 300)}")
        return result

    def heard(self) -> Iterator[tuple[Unit, Progress]]:
        return _drained(self._told)

    def check(self) -> None:
        with suppress(OSError, TimeoutError):
            if self._client.status == "running" and self._client.nthreads():
                self._alone_since = None
                return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since > ANSWER_S:
            raise EngineUnreachable(self._address, "the cluster has no worker", round(now - self._alone_since))

    def end(self) -> None:
        with suppress(Exception):  # what is to end may be gone already
            self._client.cancel(list(self._asked))
        for each in (self._client, self._cluster):
            if each is not None:
                with suppress(Exception):
                    each.close()


async def _bring(asked: Any, done: "Future[Any]") -> None:
    """Hand on what came of a unit, or why nothing did.

    Dask's own executor hands on no error of the way back: a unit whose scheduler dies while it gives its result away
    would be waited for without end.
    """
    try:
        done.set_result(await asked)
    except BaseException as error:  # noqa: BLE001 (whoever asks is told)
        done.set_exception(error)


@lru_cache(maxsize=8)
def _loaded(work: bytes) -> Work[Any]:
    """Return what is done to units; in one worker it is one, so that its units share a session and its credentials."""
    loaded: Work[Any] = pickle.loads(work)  # noqa: S301 (as Dask itself does with every task)
    return loaded


def _do_there(version: str, work: bytes, unit: Unit, topic: str) -> Any:
    """Do a unit in a worker of a cluster."""
    if version != __version__:
        return EngineDiffers(version, f"a worker has fleet-pipeline {__version__}")
    worker, told = _dask().get_worker(), -TELL_EVERY

    def tell(progress: Progress) -> None:
        nonlocal told
        if progress.seconds >= told + TELL_EVERY:
            told = progress.seconds
            worker.log_event(
                topic,
                {
                    "unit": str(unit),
                    "objects": progress.objects,
                    "seconds": progress.seconds,
                    "share": progress.share,
                },
            )

    return _loaded(work)(unit, tell)
