"""Many HTTP requests at once over libcurl, from one thread: signed, paced, and repeated until they are answered in full.

It knows requests and answers; what they mean to S3 is the business of `s3.py`.
"""

import heapq
import io
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pycurl

from fleet_pipeline.errors import AwsUnavailable
from fleet_pipeline.store.signing import UNSIGNED, Signer

ATTEMPTS = 10
"""Tries of one request. With the waits below they span about 40 s, longer than S3 takes to split a prefix that got hot."""

PAUSE_S = 0.1
"""Mean wait before the second try; it doubles with each. AWS: exponential back-off with full jitter."""

LONGEST_PAUSE_S = 10.0
"""No wait is longer."""

SETTLING_S = 0.5
"""Seconds that a smaller window is given to show its effect."""

PATIENCE_S = 5.0
"""A first try that takes longer is given up and asked anew (S3's performance guide advises it); each try has twice the patience."""

GOOD = {200, 204, 206}
"""Statuses of a request that was carried out."""

SLOW_DOWN = 503
"""Status of S3's SlowDown."""

PRECONDITION_FAILED = 412
"""Status of a request whose condition does not hold."""

PASSING = {0, 408, 429, 500, 502, SLOW_DOWN, 504}
"""Statuses that may pass by themselves; 0 is no answer at all."""

PASSING_CODES = (b"<Code>ExpiredToken</Code>", b"<Code>RequestTimeout</Code>", b"<Code>ConditionalRequestConflict</Code>", b"<Code>OperationAborted</Code>")
"""Errors of S3 that may pass by themselves although their status is 400 or 409."""


class Request(NamedTuple):
    """One request. A tuple rather than a dataclass: a hundred thousand of them are made in an hour's work, at a third of the cost."""

    path: str
    query: str = ""
    kind: str = "GET"
    """GET, LIST, PUT or DELETE."""
    headers: dict[str, str] | None = None
    expected_bytes: int | None = None
    """How long the body of a good answer is, where that is known."""
    mark: int = 0
    """The asker's own: it comes back with the answer."""
    body: bytes | Path = b""
    payload_hash: str = UNSIGNED

    @property
    def reads(self) -> bool:
        """Whether it has no body. Whatever reads may share a handle with what read before."""
        return self.kind in {"GET", "LIST"}


class Answer(NamedTuple):
    """What came back: any status that is final, and the whole body."""

    status: int
    body: bytes


@dataclass(slots=True)
class Window:
    """How many requests may be in flight: more while the client waits for the network, half as many when S3 says SlowDown."""

    size: int = 16
    most: int = 256
    _slowed_at: float | None = None
    _waits: int = 0

    def idle(self) -> None:
        """Grow: nothing had landed and there was time to wait. By an eighth; once S3 has asked to slow down, by one in as many waits as fly."""
        self._waits += 1
        if self._slowed_at is None:
            self.size = min(self.most, self.size + 1 + self.size // 8)
        elif self._waits >= self.size:
            self.size, self._waits = min(self.most, self.size + 1), 0

    def slow_down(self, now: float) -> None:
        """Shrink to half, but not again for what was sent before that could help."""
        if self._slowed_at is None or now - self._slowed_at >= SETTLING_S:
            self.size, self._slowed_at = max(2, self.size // 2), now


@dataclass(slots=True)
class Transfers:
    """Requests to one endpoint over connections that are kept. Not for several threads at once."""

    base: str
    signer: Signer
    ca_bundle: str
    sent: Counter[str] = field(default_factory=Counter)
    """How many requests went out, by method, repeated ones included."""
    window: Window = field(default_factory=Window)
    patience_s: float = PATIENCE_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _multi: Any = field(default_factory=pycurl.CurlMulti)
    _idle: list[Any] = field(default_factory=list)
    _chunks: dict[Any, list[bytes]] = field(default_factory=dict)
    """What came so far of each answer. Not attributes of the handles: pycurl looks those up at the price of an exception."""

    def one(self, request: Request) -> Answer:
        """Return the answer to a single request. Raises AwsUnavailable when it had all its tries."""
        return next(self.all([request]))[1]

    def all(self, requests: Iterable[Request | None]) -> Iterator[tuple[Request, Answer]]:
        """Yield every request with its answer, as they land. None among them asks to wait for another answer before the next.

        Raises AwsUnavailable when a request had all its tries.
        """
        waiting, flying = _Waiting(iter(requests), self.clock), _Flying()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self.window.most)
        try:
            self._fill(flying, waiting)
            while flying or not waiting.done:
                for handle, failure in self._landed(flying, waiting):
                    request, attempt = flying.pop(handle)
                    answer = self._answer(handle, request)
                    problem = failure or _problem(request, answer)
                    if problem:
                        self._again(waiting, request, attempt, answer, problem)
                    self._fill(flying, waiting)
                    if not problem:
                        yield request, answer
                self._fill(flying, waiting)
        finally:
            for handle in flying:
                self._multi.remove_handle(handle)
                self._close(handle)

    def _fill(self, flying: "_Flying", waiting: "_Waiting") -> None:
        while len(flying) < self.window.size and (ready := waiting.next()):
            request, attempt = ready
            handle = self._ready_handle(request, attempt)
            flying[handle] = ready
            self.sent[request.kind] += 1
            self._multi.add_handle(handle)

    def _ready_handle(self, request: Request, attempt: int) -> Any:
        path, query, kind, headers, *_ = request
        reads = request.reads
        handle = self._idle.pop() if reads and self._idle else self._handle()
        handle.setopt(pycurl.URL, f"{self.base}{path}?{query}" if query else self.base + path)
        if reads:
            handle.setopt(pycurl.HTTPHEADER, self.signer.headers("GET", path, query, headers))
            handle.setopt(pycurl.TIMEOUT_MS, int(self.patience_s * 1000) << attempt)
        else:
            handle.setopt(pycurl.HTTPHEADER, [*self.signer.headers(kind, path, query, headers, request.payload_hash), "Expect:"])
            _write(handle, request, attempt)
        return handle

    def _handle(self) -> Any:
        handle: Any = pycurl.Curl()
        chunks = self._chunks[handle] = []
        handle.setopt(pycurl.WRITEFUNCTION, chunks.append)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.USERAGENT, "fleet-pipeline")
        handle.setopt(pycurl.CONNECTTIMEOUT, int(PATIENCE_S))
        handle.setopt(pycurl.CAINFO, self.ca_bundle)
        return handle

    def _landed(self, flying: "_Flying", waiting: "_Waiting") -> list[tuple[Any, str]]:
        """Return the handles that are done, each with what went wrong on the way; wait when there are none yet."""
        self._multi.perform()
        landed = self._done()
        if not landed and not flying:
            self.sleep(waiting.delay)
        elif not landed:
            self.window.idle()
            self._multi.select(waiting.delay)
        return landed

    def _done(self) -> list[tuple[Any, str]]:
        landed: list[tuple[Any, str]] = []
        queued = 1
        while queued:
            queued, fine, failed = self._multi.info_read()
            landed += [(handle, "") for handle in fine]
            landed += [(handle, f"{message} (curl {code})") for handle, code, message in failed]
        return landed

    def _answer(self, handle: Any, request: Request) -> Answer:
        self._multi.remove_handle(handle)
        chunks = self._chunks[handle]
        answer = Answer(handle.getinfo(pycurl.RESPONSE_CODE), chunks[0] if len(chunks) == 1 else b"".join(chunks))
        chunks.clear()
        if request.reads:
            self._idle.append(handle)
        else:
            handle.source.close()
            self._close(handle)
        return answer

    def _close(self, handle: Any) -> None:
        del self._chunks[handle]
        handle.close()

    def _again(self, waiting: "_Waiting", request: Request, attempt: int, answer: Answer, problem: str) -> None:
        if attempt + 1 == ATTEMPTS:
            raise AwsUnavailable(f"answer {request.kind} {request.path}", str(answer.status or "no answer"), problem)
        if answer.status == SLOW_DOWN:
            self.window.slow_down(self.clock())
        if b"<Code>ExpiredToken</Code>" in answer.body:
            self.signer.expire()
        waiting.later(request, attempt + 1)


class _Flying(dict[Any, tuple[Request, int]]):
    """Requests on their way and how often each was tried before, by libcurl's handle."""


class _Waiting:
    """Requests not yet sent: those that must be repeated, each at its time, before those never tried."""

    def __init__(self, fresh: Iterator[Request | None], clock: Callable[[], float]) -> None:
        self._fresh: Iterator[Request | None] | None = fresh
        self._repeats: list[tuple[float, int, Request, int]] = []
        self._order = count()
        self._clock = clock

    @property
    def done(self) -> bool:
        return self._fresh is None and not self._repeats

    @property
    def delay(self) -> float:
        """Seconds until something may be sent again, at most one."""
        return min(1.0, max(0.0, self._repeats[0][0] - self._clock())) if self._repeats else 1.0

    def next(self) -> tuple[Request, int] | None:
        if self._repeats and self._repeats[0][0] <= self._clock():
            return heapq.heappop(self._repeats)[2:]
        if self._fresh is not None:
            for request in self._fresh:
                return request and (request, 0)
            self._fresh = None
        return None

    def later(self, request: Request, attempt: int) -> None:
        pause = random.uniform(0, min(LONGEST_PAUSE_S, PAUSE_S * 2**attempt))  # noqa: S311 (jitter)
        heapq.heappush(self._repeats, (self._clock() + pause, next(self._order), request, attempt))


def _problem(request: Request, answer: Answer) -> str:
    """Say why an answer must be asked for again, or nothing."""
    if answer.status in GOOD:
        short = request.expected_bytes is not None and len(answer.body) != request.expected_bytes
        return f"{len(answer.body)} of {request.expected_bytes} bytes came" if short else ""
    passing = answer.status in PASSING or any(code in answer.body for code in PASSING_CODES)
    return answer.body.decode(errors="replace")[:500] or "no reason given" if passing else ""


def _write(handle: Any, request: Request, attempt: int) -> None:
    """Make a handle send the body, which is read anew at each try. Patience is for the wire being idle, not for the whole."""
    handle.setopt(pycurl.CUSTOMREQUEST, request.kind)
    handle.source = request.body.open("rb") if isinstance(request.body, Path) else io.BytesIO(request.body)
    size = request.body.stat().st_size if isinstance(request.body, Path) else len(request.body)
    if request.kind == "PUT":
        handle.setopt(pycurl.UPLOAD, 1)
        handle.setopt(pycurl.READFUNCTION, handle.source.read)
        handle.setopt(pycurl.INFILESIZE_LARGE, size)
    handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    handle.setopt(pycurl.LOW_SPEED_TIME, int(PATIENCE_S) << attempt)
