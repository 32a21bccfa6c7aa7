"""Many HTTP requests at once over libcurl, from one thread: signed, paced, and repeated until they are answered in
full.

It knows requests and answers; what they mean to S3 is the business of `s3.py`.
"""

import heapq
import io
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import md5
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pycurl

from fleet_pipeline.aws.clients import passes
from fleet_pipeline.aws.store.integrity import UNLIKE_ETAG, damaged
from fleet_pipeline.aws.store.signing import UNSIGNED, Signer
from fleet_pipeline.aws.store.versions import maker
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable

LIMIT_S = 60.0
"""Seconds of waiting after which a request has been answered or is given up, whatever the server does.

A large body adds the time that its bytes took.
"""

ATTEMPTS = 10
"""Most tries of one request.

With the waits below they span about 20 s, longer than S3 takes to split a prefix that got hot.
"""

FEW_ATTEMPTS = 4
"""Most tries where another answer is hoped for once, and no more: the credentials were made anew, a version is said to
be gone.
"""

PAUSE_S = 0.1
"""Mean wait before the second try; it doubles with each. AWS: exponential back-off with full jitter."""

LONGEST_PAUSE_S = 10.0
"""No wait is longer."""

SETTLING_S = 0.5
"""Seconds that a smaller window is given to show its effect."""

PATIENCE_S = 5.0
"""A first try that takes longer is given up and asked anew (S3's performance guide advises it); each try has twice the
patience, within the limit.
"""

LARGE_BYTES = 1 << 20
"""A larger body may take longer than a try's patience, as long as it moves."""

SLOWEST_BYTES_PER_S = 65_536
"""A large body that moves slower for a try's patience is given up."""

LONGEST_PAGE_BYTES = 8 << 20
"""More than a thousand versions with keys of 1,024 bytes take, each escaped.

A body that goes on is cut off and asked for anew.
"""

GOOD = {200, 204, 206}
"""Statuses of a request that was carried out."""

WHOLE = 200
"""Status of an answer that has an object whole."""

SLOW_DOWN = 503
"""Status of S3's SlowDown."""

PRECONDITION_FAILED = 412
"""Status of a request whose condition does not hold."""

STALE = {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"}
"""Codes of a refusal that other credentials may not meet."""

GONE = {"NoSuchKey", "NoSuchVersion"}
"""Codes of an answer to a read of what was listed before."""

TOO_SKEWED = "RequestTimeTooSkewed"
"""The code of a request whose date S3's clock does not believe. The answer has S3's."""

_PASSING_CODES = {
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "TemporaryRedirect",
    "Throttling",
    "ThrottlingException",
    TOO_SKEWED,
}
"""Codes that may pass by themselves although their status is 3xx or 4xx."""

_HOPELESS = {1, 3, 58, 59, 60, 66, 77, 82, 83}
"""libcurl's codes of what no other try helps against: an address that is none, certificates that cannot be read or are
not trusted.
Source: https://curl.se/libcurl/c/libcurl-errors.html
"""

REDIRECTS = {301, 302, 303, 307, 308}
"""Statuses that send a request elsewhere.

No Location is ever followed: who redirects must not choose who is given a signed request.
"""

_OTHER_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
"""Codes of a refusal that may name the bucket's region. Source: botocore's S3RegionRedirectorv2."""

_REGION = re.compile(r"[a-z0-9-]{1,63}")
"""A region's name: one label of a host's, so that an answer cannot name a host that is not Amazon's."""

_CHECKED = {"x-amz-checksum-mode": "ENABLED"}
_READS = {"GET", "LIST"}
_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_BODYS_REGION = re.compile(rb"<Region>([^<]*)</Region>")
_SERVER_TIME = re.compile(rb"<ServerTime>([^<]*)</ServerTime>")


class Request(NamedTuple):
    """One request.

    A tuple rather than a dataclass: a hundred thousand of them are made in an hour's work, at a third of the cost.
    """

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
    etag: str = ""
    """The ETag of the whole object that is read, without quotes, where it is known: the body is held against it."""
    check: Callable[[bytes], str] | None = None
    """Says why the body of a good answer must be asked for anew, or nothing."""
    span: tuple[int, int] | None = None
    """The bytes `[start, stop)` that are asked for, where it is not the whole object."""

    @property
    def size(self) -> int:
        """How many bytes its body or its answer's has."""
        return self.expected_bytes or (self.body.stat().st_size if isinstance(self.body, Path) else len(self.body))

    def __str__(self) -> str:
        """Return what it is, as a person reads it."""
        return f"{self.kind} {unquote(self.path)}{f' ({unquote(self.query)})' if self.query else ''}"


class Answer(NamedTuple):
    """What came back: any status that is final, and the whole body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    """By lower-case name, where they were kept: each line costs a call, so those of a first try of a
    small GET are not.
    """

    @property
    def code(self) -> str:
        """S3's name of an error."""
        found = _CODE.search(self.body[:4096])
        return found[1].decode(errors="replace") if found else ""

    @property
    def elsewhere(self) -> bool:
        """Whether it says that the bucket is served elsewhere."""
        return self.status in REDIRECTS or (self.status not in GOOD and self.code in _OTHER_REGION)

    @property
    def region(self) -> str:
        """The region in which the bucket is, where an answer says so that it is elsewhere; nothing otherwise."""
        found = _BODYS_REGION.search(self.body[:4096])
        named = self.headers.get("x-amz-bucket-region") or (found[1].decode(errors="replace") if found else "")
        return named if self.elsewhere and _REGION.fullmatch(named) else ""


class Try(NamedTuple):
    """A request on its way."""

    request: Request
    attempt: int
    ends: float
    """When it is given up, by the seconds waited so far."""
    careful: bool
    """Whether the answer's headers are kept, and S3 is asked for a checksum. Each repeat is."""
    credentials: int
    """Which credentials signed it, by number."""
    refused: int
    """How many of its tries were answered by a refusal of which another answer is hoped for a few times.

    What else went wrong is not counted here.
    """

    @property
    def small(self) -> bool:
        """Whether it may share a handle with what read before: it sends no body, and waits for a small one."""
        request = self.request
        return request.kind in _READS and request.span is None and (request.expected_bytes or 0) <= LARGE_BYTES

    @property
    def plain(self) -> bool:
        """Whether no headers of its answer are kept."""
        return self.small and not self.careful


_tried, _answered = maker(Try), maker(Answer)
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(slots=True)
class Window:
    """How many requests may be in flight: more while the client waits for the network, half as many when S3 says
    SlowDown.
    """

    size: int = 16
    most: int = 256
    _slowed_at: float | None = None
    _waits: int = 0

    def idle(self) -> None:
        """Grow: nothing had landed and there was time to wait.

        By an eighth; once S3 has asked to slow down, by one in as many waits as fly.
        """
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
    proxy: str = ""
    elsewhere: Callable[[str], str] | None = None
    """Returns the address of the same bucket in a region, where the bucket is said to be in that one."""
    patience_s: float = PATIENCE_S
    limit_s: float = LIMIT_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _multi: Any = field(default_factory=pycurl.CurlMulti)
    _idle: list[Any] = field(default_factory=list)
    _careful_idle: list[Any] = field(default_factory=list)
    """Handles that keep the headers of what they read."""
    _chunks: dict[Any, list[bytes]] = field(default_factory=dict)
    """What came so far of each answer.

    Not attributes of the handles: pycurl looks those up at the price of an exception.
    """
    _sources: dict[Any, Any] = field(default_factory=dict)
    _headers: dict[Any, list[bytes]] = field(default_factory=dict)
    _careful: bool = False
    """Whether every body is asked for with a checksum: an ETag here was no digest of its object's bytes."""
    _waited_s: float = 0.0
    """Seconds that were spent on the network so far.

    What whoever asked does with an answer is not the server's time.
    """

    def one(self, request: Request) -> Answer:
        """Return the answer to a single request. Raises AwsUnavailable when it had all its tries."""
        return next(self.all([request]))[1]

    def all(self, requests: Iterable[Request | None]) -> Iterator[tuple[Request, Answer]]:
        """Yield every request with its answer, as they land.

        None among them asks to wait for another answer before the next.

        Raises AwsUnavailable when a request had all its tries.
        """
        waiting, flying = _Waiting(iter(requests), self.clock), _Flying()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self.window.most)
        try:
            self._fill(flying, waiting)
            while flying or not waiting.done:
                for handle, curl_code, failure in self._landed(flying, waiting):
                    tried = flying.pop(handle)
                    answer, moved_s = self._answer(handle, tried, curl_code)
                    problem = failure or self._problem(tried, answer)
                    if problem:
                        self._again(waiting, tried._replace(ends=tried.ends + moved_s), answer, problem, curl_code)
                    self._fill(flying, waiting)
                    if not problem:
                        yield tried.request, answer
                self._fill(flying, waiting)
        finally:
            for handle in flying:
                self._multi.remove_handle(handle)
                self._close(handle)

    def close(self) -> None:
        """Close every connection. Without it they stay until the garbage is looked for: a handle knows its owner."""
        for idle in (self._idle, self._careful_idle):
            while idle:
                self._close(idle.pop())
        with suppress(pycurl.error):  # a listing that was given up may be in a call of its thread
            self._multi.close()

    def _fill(self, flying: "_Flying", waiting: "_Waiting") -> None:
        while len(flying) < self.window.size and (ready := waiting.next()):
            if type(ready) is Try:
                tried = ready._replace(credentials=self.signer.number)
            else:
                tried = _tried((ready, 0, self._waited_s + self.limit_s, self._careful, self.signer.number, 0))
            handle = self._ready_handle(tried)
            flying[handle] = tried
            self.sent[tried.request.kind] += 1
            self._multi.add_handle(handle)

    def _ready_handle(self, tried: Try) -> Any:
        request = tried.request
        path, query, kind, headers = request[:4]
        small, careful = tried.small, tried.careful
        idle = self._careful_idle if careful else self._idle
        handle = idle.pop() if small and idle else self._handle()
        handle.setopt(pycurl.URL, f"{self.base}{path}?{query}" if query else self.base + path)
        if small and not careful:
            handle.setopt(pycurl.HTTPHEADER, self.signer.headers("GET", path, query, headers))
            return handle
        if handle not in self._headers:
            self._keep_headers(handle)
        if kind in _READS:
            extra = (headers or {}) | _CHECKED if careful else headers
            handle.setopt(pycurl.HTTPHEADER, self.signer.headers("GET", path, query, extra))
        else:
            handle.setopt(
                pycurl.HTTPHEADER, [*self.signer.headers(kind, path, query, headers, request.payload_hash), "Expect:"]
            )
            self._write(handle, request)
        _limit(
            handle, request.size, min(self.patience_s * (1 << tried.attempt), max(0.05, tried.ends - self._waited_s))
        )
        return handle

    def _handle(self) -> Any:
        handle: Any = pycurl.Curl()
        chunks = self._chunks[handle] = []
        handle.setopt(pycurl.WRITEFUNCTION, chunks.append)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.USERAGENT, "fleet-pipeline")
        handle.setopt(pycurl.TIMEOUT_MS, int(min(self.patience_s, self.limit_s) * 1000))
        handle.setopt(pycurl.PATH_AS_IS, 1)  # a segment "." or ".." of a key is a part of its name
        handle.setopt(pycurl.MAXFILESIZE_LARGE, LONGEST_PAGE_BYTES)
        handle.setopt(pycurl.CAINFO, os.fsencode(self.ca_bundle))
        handle.setopt(pycurl.PROXY, self.proxy)
        handle.setopt(pycurl.NOPROXY, "")  # whoever chose the proxy has read NO_PROXY
        return handle

    def _write(self, handle: Any, request: Request) -> None:
        """Make a handle send the body, which is read anew at each try."""
        handle.setopt(pycurl.CUSTOMREQUEST, request.kind)
        if request.kind == "PUT":
            source = self._sources[handle] = (
                request.body.open("rb") if isinstance(request.body, Path) else io.BytesIO(request.body)
            )
            handle.setopt(pycurl.UPLOAD, 1)
            handle.setopt(pycurl.READFUNCTION, source.read)
            handle.setopt(pycurl.INFILESIZE_LARGE, request.size)

    def _keep_headers(self, handle: Any) -> None:
        lines = self._headers[handle] = []
        handle.setopt(pycurl.HEADERFUNCTION, lines.append)

    def _landed(self, flying: "_Flying", waiting: "_Waiting") -> list[tuple[Any, int, str]]:
        """Return the handles that are done, each with what went wrong on the way; wait when there are none yet."""
        began = self.clock()
        self._multi.perform()
        landed = self._done()
        if not landed and not flying:
            self.sleep(waiting.delay)
        elif not landed:
            self.window.idle()
            self._multi.select(waiting.delay)
        self._waited_s += self.clock() - began
        return landed

    def _done(self) -> list[tuple[Any, int, str]]:
        landed: list[tuple[Any, int, str]] = []
        queued = 1
        while queued:
            queued, fine, failed = self._multi.info_read()
            landed += [(handle, 0, "") for handle in fine]
            landed += [(handle, code, f"{message} (curl {code})") for handle, code, message in failed]
        return landed

    def _answer(self, handle: Any, tried: Try, curl_code: int) -> tuple[Answer, float]:
        """Return the answer, and the seconds that what moved of a large body was worth, if that is all."""
        self._multi.remove_handle(handle)
        chunks = self._chunks[handle]
        status, body = handle.getinfo(pycurl.RESPONSE_CODE), chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        if (lines := self._headers.get(handle)) is None:
            self._idle.append(handle)
            return _answered((status, body, _NO_HEADERS)), 0.0
        answer = Answer(status, body, _named(lines))
        if tried.small:
            lines.clear()
            self._careful_idle.append(handle)
            return answer, 0.0
        moved = handle.getinfo(pycurl.SIZE_DOWNLOAD_T) + handle.getinfo(pycurl.SIZE_UPLOAD_T)
        self._close(handle)
        size = tried.request.size
        return answer, min(moved, size) / SLOWEST_BYTES_PER_S if curl_code and size > LARGE_BYTES else 0.0

    def _close(self, handle: Any) -> None:
        del self._chunks[handle]
        self._headers.pop(handle, None)
        if (source := self._sources.pop(handle, None)) is not None:
            source.close()
        handle.close()

    def _problem(self, tried: Try, answer: Answer) -> str:
        """Say why an answer must be asked for again, or nothing."""
        request, (status, body, headers) = tried.request, answer
        if status not in GOOD:
            return _passing(tried, answer)
        if request.expected_bytes is not None and len(body) != request.expected_bytes:
            return f"{len(body)} of {request.expected_bytes} bytes came"
        if request.span and (unlike := _unlike_a_range(request.span, answer)):
            return unlike
        if request.etag and md5(body, usedforsecurity=False).hexdigest() != request.etag:
            damage = damaged(body, request.etag, headers) if headers else UNLIKE_ETAG
            self._careful = self._careful or not damage
            return damage
        if request.kind in {"PUT", "DELETE"}:
            return _unlike_a_write(request, answer)
        return request.check(body) if request.check else ""

    def _again(self, waiting: "_Waiting", tried: Try, answer: Answer, problem: str, curl_code: int) -> None:
        """Have a request sent again after a while, or raise what it met."""
        request, code = tried.request, answer.code if answer.status not in GOOD else ""
        if curl_code in _HOPELESS:
            raise AwsRefused(
                f"answer {request}",
                f"curl {curl_code}",
                f"{problem}; trust and proxies are AWS_CA_BUNDLE, HTTPS_PROXY and NO_PROXY",
            )
        if code in STALE:
            self._renew(tried, answer)
        if answer.region:
            self._move(answer.region)
        if answer.status == SLOW_DOWN:
            self.window.slow_down(self.clock())
        if code == TOO_SKEWED and (said := _SERVER_TIME.search(answer.body)):
            self.signer.follow(said[1].decode())
        pause = random.uniform(0, min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (tried.attempt + 1)))  # noqa: S311 (jitter)
        if tried.attempt + 1 == ATTEMPTS or self._waited_s + pause >= tried.ends:
            raise AwsUnavailable(f"answer {request}", str(answer.status or "no answer"), problem)
        waiting.later(
            tried._replace(attempt=tried.attempt + 1, careful=True, refused=tried.refused + _refuses(tried, answer)),
            pause,
        )

    def _move(self, region: str) -> None:
        """Send what follows to the bucket's region, signed for it."""
        if region != self.signer.region:
            self.base = self.elsewhere(region) if self.elsewhere else self.base
            self.signer.move(region, urlsplit(self.base).netloc)

    def _renew(self, tried: Try, answer: Answer) -> None:
        """Fetch other credentials once for all requests that met the same refusal."""
        if tried.refused + 1 == FEW_ATTEMPTS:
            why = (
                "the credentials were fetched anew and are refused still: log in again (aws sso login), or renew what "
                "AWS_PROFILE or the AWS_ variables name"
            )
            raise AwsRefused(f"answer {tried.request}", answer.code, why)
        self.signer.expire(tried.credentials)


class _Flying(dict[Any, Try]):
    """Requests on their way, by libcurl's handle."""


class _Waiting:
    """Requests not yet sent: those that must be repeated, each at its time, before those never tried."""

    def __init__(self, fresh: Iterator[Request | None], clock: Callable[[], float]) -> None:
        self._fresh: Iterator[Request | None] | None = fresh
        self._repeats: list[tuple[float, int, Try]] = []
        self._order = count()
        self._clock = clock

    @property
    def done(self) -> bool:
        return self._fresh is None and not self._repeats

    @property
    def delay(self) -> float:
        """Seconds until something may be sent again, at most one."""
        return min(1.0, max(0.0, self._repeats[0][0] - self._clock())) if self._repeats else 1.0

    def next(self) -> Try | Request | None:
        """Return what is to be sent again by now, or else a request that was never sent."""
        if self._repeats and self._repeats[0][0] <= self._clock():
            return heapq.heappop(self._repeats)[2]
        if self._fresh is not None:
            for request in self._fresh:
                return request
            self._fresh = None
        return None

    def later(self, tried: Try, pause: float) -> None:
        heapq.heappush(self._repeats, (self._clock() + pause, next(self._order), tried))


def _passing(tried: Try, answer: Answer) -> str:
    """Say why an answer that is no good one may be another next time, or nothing."""
    nowhere = answer.elsewhere and not (answer.region or tried.plain)  # headers of a plain one were not read
    hoped = _refuses(tried, answer) and tried.refused + 1 < FEW_ATTEMPTS and not nowhere
    if not (
        not answer.status or passes(answer.status) or answer.code in _PASSING_CODES or answer.code in STALE or hoped
    ):
        return ""
    return answer.body.decode(errors="replace")[:500] or "no reason given"


def _refuses(tried: Try, answer: Answer) -> bool:
    """Say whether an answer is a refusal of which another is hoped for, a few times: other credentials, another region,
    a version that is there after all, a whole answer where half came.
    """
    gone = answer.code in GONE and tried.request.kind == "GET"
    half = b"<Error>" in answer.body[:200] and b"</Error>" not in answer.body
    return answer.status not in GOOD and (gone or half or answer.elsewhere or answer.code in STALE)


def _unlike_a_range(span: tuple[int, int], answer: Answer) -> str:
    """Say why a good answer of the right length does not hold the bytes of a span; nothing when it does."""
    start, stop = span
    said = answer.headers.get("content-range", "")
    if said.startswith(f"bytes {start}-{stop - 1}/") or (answer.status == WHOLE and not said and not start):
        return ""
    return (
        f"bytes {start}-{stop - 1} were asked for, and those that came are {said or 'not said to be of a range'} "
        f"(status {answer.status})"
    )


def _unlike_a_write(request: Request, answer: Answer) -> str:
    """Say what a good answer to a PUT or a DELETE has or lacks that S3's has not or has; nothing when it is as S3's."""
    if answer.body.strip():
        return f"a success with a body that S3 does not send: {answer.body[:200].decode(errors='replace')}"
    return (
        "a success without an ETag, which S3 always sends"
        if request.kind == "PUT" and "etag" not in answer.headers
        else ""
    )


def _named(lines: list[bytes]) -> dict[str, str]:
    """Return headers by lower-case name: those of the last answer, where a proxy or `100 Continue`
    sent others before.
    """
    starts = [place for place, line in enumerate(lines) if line.startswith(b"HTTP/")]
    pairs = (line.decode("latin-1").partition(":") for line in lines[starts[-1] + 1 if starts else 0 :])
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _limit(handle: Any, size: int, patience_s: float) -> None:
    """Let a large body take the time that it needs while it moves, and a small one no more than a try's patience."""
    if size <= LARGE_BYTES:
        handle.setopt(pycurl.TIMEOUT_MS, int(patience_s * 1000))
        return
    handle.setopt(pycurl.TIMEOUT_MS, int((patience_s + size / SLOWEST_BYTES_PER_S) * 1000))
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(patience_s * 1000))
    handle.setopt(pycurl.LOW_SPEED_LIMIT, SLOWEST_BYTES_PER_S)
    handle.setopt(pycurl.LOW_SPEED_TIME, max(1, int(patience_s)))
    handle.setopt(pycurl.MAXFILESIZE_LARGE, size + LARGE_BYTES)
