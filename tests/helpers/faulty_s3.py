"""S3 over HTTP on a DictStore, with a door for each client: at a door requests may fail, answers get lost, and clients get killed."""

import asyncio
import os
import random
import signal
import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import islice, takewhile
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from dict_store import DictStore

REFUSALS = {
    "500": "<Code>InternalError</Code>",
    "503": "<Code>SlowDown</Code>",
    "307": "<Code>TemporaryRedirect</Code><Endpoint>nowhere.invalid</Endpoint>",
    "301": "<Code>PermanentRedirect</Code><Region>eu-west-1</Region>",
    "400": "<Code>ExpiredToken</Code>",
    "403": "<Code>InvalidAccessKeyId</Code>",
    "404": "<Code>NoSuchVersion</Code>",
}
"""What is said instead of an answer, by status. Whoever is sent to another region finds the same server there."""

UNANSWERED = ("reset", "silence")
SPOILT = ("lost answer", "truncated", "drip", "too short a length", "flipped", "200 with an error", "200 with nothing")
"""What becomes of the answer to a request that was carried out."""

FAULTS = (*REFUSALS, *UNANSWERED, *SPOILT)

PATIENCE_S = 0.5
"""For a client's first try: silence costs no more."""

DRIP_S = 0.02
"""Between two bytes of an answer that drips."""


@dataclass
class Door:
    """One port, its client, and what happens to the client's requests."""

    port: int = 0
    pid: int = 0
    chance: float = 0.0
    seed: int = 0
    kill_at: tuple[int, str] | None = None
    """The number of the request, and whether the client dies "before" or "after" it is carried out."""
    requests: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self._random = random.Random(self.seed)

    def fault(self, *, reading):
        if self._random.random() >= self.chance:
            return None
        fault = self._random.choice([fault for fault in FAULTS if reading or fault != "404"])
        self.faults[fault] = self.faults.get(fault, 0) + 1
        return fault

    def dies(self, when):
        if self.kill_at != (len(self.requests) - 1, when):
            return False
        os.kill(self.pid, signal.SIGKILL)
        return True


class FaultyS3:
    """Buckets by name behind some doors, served by a thread while the context lasts."""

    def __init__(self, doors=1, *, obedient=True, host="127.0.0.1", **buckets: DictStore):
        self.host = host
        self.buckets, self.doors = buckets, [Door(seed=number) for number in range(doors)]
        self.obedient = obedient
        """Whether a write on the condition that its key is free is left undone where it is taken."""
        self._sorted: dict[str, list[str]] = {}
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        for door in self.doors:
            server = self.loop.run_until_complete(
                self.loop.create_server(lambda door=door: _Connection(self, door), self.host, 0)
            )
            door.port = server.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def keys(self, bucket):
        """The sorted keys of a bucket, into which others write meanwhile: sorted anew only when they are others."""
        keys = list(self.buckets[bucket.replace("-", "_")].objects)
        if bucket not in self._sorted or keys != self._sorted[bucket][0]:
            self._sorted[bucket] = keys, sorted(keys)
        return self._sorted[bucket][1]

    def url(self, door=0):
        return f"http://{self.host}:{self.doors[door].port}"


class _Connection(asyncio.Protocol):
    def __init__(self, s3, door):
        self._s3, self._door, self._data = s3, door, b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            line, *lines = self._data[:end].decode().split("\r\n")
            headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
            stop = end + 4 + int(headers.get("content-length", 0))
            if len(self._data) < stop:
                return
            body, self._data = self._data[end + 4 : stop], self._data[stop:]
            self._serve(line, headers, body)

    def _serve(self, line, headers, body):
        door, (method, target, _) = self._door, line.split(" ")
        door.requests.append(f"{method} {target}")
        if door.dies("before"):
            return
        fault = door.fault(reading=method == "GET" and "versionId" in target)
        if fault == "reset":
            self._transport.abort()
        elif fault in REFUSALS:
            self._send(int(fault), f"<Error>{REFUSALS[fault]}</Error>".encode())
        elif fault != "silence":
            status, answer, *header = self._carried_out(method, target, headers, body)
            if door.dies("after") or fault == "lost answer":
                self._transport.abort()
            else:
                self._send(
                    status,
                    _disturbed(answer, fault if status == 200 else None),
                    *header,
                    fault=fault if len(answer) > 1 else None,
                )

    def _send(self, status, body, header="x: y", *, fault=None):
        length = len(body) // 2 if fault == "too short a length" else len(body)
        head = f'HTTP/1.1 {status} x\r\netag: "x"\r\n{header}\r\ncontent-length: {length}\r\n\r\n'
        if fault == "drip":
            self._drip(head.encode() + body)
            return
        self._transport.write(head.encode() + (body[: len(body) // 2] if fault == "truncated" else body))
        if fault in {"truncated", "too short a length"}:
            self._transport.close()

    def _drip(self, rest):
        """A byte after the other, until the client hangs up."""
        if rest and not self._transport.is_closing():
            self._transport.write(rest[:1])
            self._s3.loop.call_later(DRIP_S, self._drip, rest[1:])

    def _carried_out(self, method, target, headers, body):
        path, _, query = target.partition("?")
        _, bucket, key = unquote(path).split("/", 2)
        store, asked = (
            self._s3.buckets[bucket.replace("-", "_")],
            {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()},
        )
        if method == "PUT":
            assert headers["if-none-match"] == "*"
            return self._written(store, key, body)
        if method == "DELETE":
            store.delete([held for held, _ in store.objects.get(key, []) if held.id == asked["versionId"]])
            return 204, b""
        if "versions" in asked:
            return 200, _listing(store, self._s3.keys(bucket), asked)
        found = [
            held for version, held in store.objects.get(key, []) if asked.get("versionId", version.id) == version.id
        ]
        if not found:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        if "range" not in headers:
            return 200, found[0]
        start, stop = headers["range"].removeprefix("bytes=").split("-")
        return 206, found[0][int(start) : int(stop) + 1], f"content-range: bytes {start}-{stop}/{len(found[0])}"

    def _written(self, store, key, body):
        if not self._s3.obedient:
            return 200, b"", f"x-amz-version-id: {store.put(key, body).id}"
        return (200, b"") if store.put_new(key, body) else (412, b"<Error><Code>PreconditionFailed</Code></Error>")


def _disturbed(answer, fault):
    if fault == "flipped" and answer:
        return answer[:-1] + bytes([answer[-1] ^ 1])
    return {"200 with an error": b"<Error><Code>InternalError</Code></Error>", "200 with nothing": b""}.get(
        fault, answer
    )


def _listing(store, keys, asked):
    if "delimiter" in asked:
        folders = "".join(
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
            for each in store.folders(asked["prefix"])
        )
        return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{folders}</ListVersionsResult>".encode()
    marker, after, prefix = asked.get("key-marker", ""), asked.get("version-id-marker"), asked["prefix"]
    start = bisect_left(keys, marker) if after else bisect_right(keys, marker)
    following_keys = takewhile(lambda key: key.startswith(prefix), keys[max(start, bisect_left(keys, prefix)) :])
    versions = list(
        islice((version for key in following_keys for version, _ in list(store.objects.get(key, []))), 2000)
    )
    if after:
        versions = versions[
            next(
                (place + 1 for place, version in enumerate(versions) if (version.key, version.id) == (marker, after)), 0
            ) :
        ]
    page, more = versions[:1000], len(versions) > 1000
    entries = "".join(
        f"<Version><Key>{escape(v.key)}</Key><VersionId>{v.id}</VersionId><IsLatest>{str(v.latest).lower()}</IsLatest><LastModified>{v.modified}</LastModified>"
        f"<ETag>{escape(v.etag)}</ETag><Size>{v.size}</Size></Version>"
        for v in page
    )
    following = (
        f"<NextKeyMarker>{escape(page[-1].key)}</NextKeyMarker><NextVersionIdMarker>{page[-1].id}</NextVersionIdMarker>"
        if more
        else ""
    )
    return f"<ListVersionsResult><IsTruncated>{str(more).lower()}</IsTruncated>{following}{entries}</ListVersionsResult>".encode()
