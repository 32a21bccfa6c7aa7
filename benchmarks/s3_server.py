"""A loopback S3 to race against: one process, one epoll loop, objects in memory; as few microseconds a request as
Python allows.

    python benchmarks/s3_server.py --port 18080 --objects 100000 [--hours 168] [--dirty] [--latency-ms 20]
    [--page-latency-ms 150] [--older 1000000]

It lists (objects and versions), gets (whole and by range), heads, puts and deletes, checks no signature, and answers
with the headers that S3 sends.
"""

import argparse
import hashlib
import re
import select
import socket
import sys
import time
from bisect import bisect_left, bisect_right, insort
from datetime import UTC, datetime
from functools import lru_cache
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.batches import batches
from benchmarks.messages import BUCKET, KINDS, messages, older

PAGE = 1000
DATE = "Mon, 23 Nov 2026 11:00:00 GMT"
MODIFIED = "2026-11-23T11:00:00.000Z"
HEADERS = (
    f"HTTP/1.1 %s\r\nx-amz-id-2: {'a' * 76}\r\nx-amz-request-id: 0123456789ABCDEF\r\nDate: "
    f"{DATE}\r\nLast-Modified: {DATE}\r\n"
    "x-amz-server-side-encryption: AES256\r\nx-amz-version-id: abcdefghijklmnopqrstuvwxyz012345\r\nAccept-Ranges: "
    "bytes\r\n"
    'Content-Type: application/octet-stream\r\nETag: "%s"\r\nServer: AmazonS3\r\nContent-Length: %d\r\n'
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d*)-(\d*)", re.IGNORECASE)


class Bucket:
    """Objects by path, `/bucket/key`."""

    def __init__(self, objects):
        self.objects = dict(objects)
        self.keys = sorted(self.objects)

    def put(self, path, body):
        if path in self.objects:
            return False
        self.objects[path] = body
        self.keys = sorted(self.objects)
        return True

    def delete(self, path):
        if self.objects.pop(path, None) is not None:
            del self.keys[bisect_left(self.keys, path)]

    def page(self, path, query):
        """One page of a listing, of objects or of versions."""
        root = path.rstrip("/") + "/"
        prefix, versions = root + query.get("prefix", ""), "versions" in query
        after = query.get("key-marker") or query.get("continuation-token") or query.get("start-after") or ""
        start = bisect_right(self.keys, max(root + after, prefix[:-1] + chr(ord(prefix[-1]) - 1) + "\U0010ffff"))
        keys = [key for key in self.keys[start : start + int(query.get("max-keys", PAGE))] if key.startswith(prefix)]
        more = start + len(keys) < len(self.keys) and self.keys[start + len(keys)].startswith(prefix)
        entries = "".join(self._entry(root, key, versions=versions) for key in keys)
        last = escape(keys[-1].removeprefix(root)) if keys else ""
        following = (
            f"<NextKeyMarker>{last}</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
            if versions
            else f"<NextContinuationToken>{last}</NextContinuationToken>"
        )
        kind = "ListVersionsResult" if versions else "ListBucketResult"
        head = (
            f"<Name>{root.strip('/')}</Name><Prefix>{escape(query.get('prefix', ''))}</Prefix>"
            f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
        )
        tail = f"<IsTruncated>{str(more).lower()}</IsTruncated>{following if more else ''}"
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<{kind} '
            f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{head}{tail}{entries}</{kind}>'
        ).encode()

    def _entry(self, root, path, *, versions):
        key, body = path.removeprefix(root), self.objects[path]
        shared = (
            f"<LastModified>{MODIFIED}</LastModified><ETag>&quot;{_etag(body)}&quot;</ETag>"
            f"<Size>{len(body)}</Size><StorageClass>STANDARD</StorageClass>"
        )
        if not versions:
            return f"<Contents><Key>{escape(key)}</Key>{shared}</Contents>"
        digest = hashlib.blake2b(path.encode(), digest_size=16).hexdigest()
        version = f"<VersionId>{digest}</VersionId><IsLatest>true</IsLatest>"
        return f"<Version><Key>{escape(key)}</Key>{version}{shared}<Owner><ID>{'0' * 64}</ID></Owner></Version>"


class Kept(Bucket):
    """Objects, when each came and went, and all that there ever were."""

    def __init__(self):
        super().__init__({})
        self.ever, self.came, self.log = {}, {}, []

    def put(self, path, body):
        if path in self.objects:
            return False
        insort(self.keys, path)
        self.objects[path] = self.ever[path] = body
        self.came[path] = time.time()
        self.log.append((self.came[path], path, True))
        return True

    def delete(self, path):
        if path in self.objects:
            super().delete(path)
            self.log.append((time.time(), path, False))

    def _entry(self, root, path, *, versions):
        came = datetime.fromtimestamp(self.came[path], UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        text = super()._entry(root, path, versions=versions)
        before, _, rest = text.partition("<LastModified>")
        return f"{before}<LastModified>{came}{rest[rest.index('</LastModified>') :]}"


def _etag(body):
    return _etag_of_part(body) if len(body) > 1 << 20 else hashlib.md5(body, usedforsecurity=False).hexdigest()


@lru_cache
def _etag_of_part(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _response(status, body, etag="", *, head=False, extra=""):
    return (HEADERS % (status, etag, len(body)) + extra + "\r\n").encode() + (b"" if head else body)


class Server:
    """An epoll loop.

    Answers wait `latency_s` before they are sent, pages of listings `page_latency_s`, all at once and not one after the
    other.
    """

    def __init__(self, bucket, port, latency_s, page_latency_s):
        self.bucket, self.latency_s, self.page_latency_s = bucket, latency_s, page_latency_s
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.connections, self.buffers = {}, {}
        self.delayed = []

    def serve(self):
        while True:
            wait = max(0.0, self.delayed[0][0] - time.monotonic()) if self.delayed else None
            for fileno, _ in self.epoll.poll(wait):
                if fileno == self.listener.fileno():
                    self._accept()
                else:
                    self._read(fileno)
            while self.delayed and self.delayed[0][0] <= time.monotonic():
                _, fileno, answer = heappop(self.delayed)
                self._send(fileno, answer)

    def _accept(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setblocking(False)
                self.connections[connection.fileno()] = connection
                self.epoll.register(connection, select.EPOLLIN)
        except BlockingIOError:
            return

    def _read(self, fileno):
        connection = self.connections[fileno]
        try:
            data = connection.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self.epoll.unregister(connection)
            self.buffers.pop(fileno, None)
            self.connections.pop(fileno).close()
            return
        if fileno in self.buffers:
            self.buffers[fileno] += data
            data = self.buffers[fileno]
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = 0 if data.startswith((b"GET", b"HEAD", b"DELETE")) else int(_LENGTH.search(data, 0, end + 2)[1])
            if len(data) < end + 4 + length:
                break
            self._answer(fileno, bytes(data[:end]), bytes(data[end + 4 : end + 4 + length]))
            data = data[end + 4 + length :]
        if data:
            self.buffers[fileno] = (
                data if isinstance(data, bytearray) else bytearray(data)
            )  # a part has hundreds of megabytes: no copy
        else:
            self.buffers.pop(fileno, None)

    def _answer(self, fileno, head, body):
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.decode().partition("?")
        found = self.bucket.objects.get(path) if "%" not in path else self.bucket.objects.get(unquote(path))
        latency_s = self.latency_s
        if method == b"PUT":
            answer = _response(
                "200 OK" if self.bucket.put(unquote(path), body) else "412 Precondition Failed", b"", "0"
            )
        elif method == b"DELETE":
            self.bucket.delete(unquote(path))
            answer = _response("204 No Content", b"")
        elif found is not None:
            answer = self._object(found, head, is_head=method == b"HEAD")
        elif path.count("/") == 1 or path.endswith("/"):
            values = {name: value[-1] for name, value in parse_qs(query, keep_blank_values=True).items()}
            answer = _response(
                "200 OK", b"" if "location" in values else self.bucket.page(path, values), head=method == b"HEAD"
            )
            latency_s = self.page_latency_s
        else:
            answer = _response(
                "404 Not Found",
                b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>",
                head=method == b"HEAD",
            )
        if latency_s:
            heappush(self.delayed, (time.monotonic() + latency_s, fileno, answer))
        else:
            self._send(fileno, answer)

    def _object(self, body, head, *, is_head):
        wanted = _RANGE.search(head) if b"ange" in head else None
        if not wanted:
            return _response("200 OK", body, _etag(body) if is_head else "0", head=is_head)
        first, last = wanted[1], wanted[2]
        start = int(first) if first else max(0, len(body) - int(last))
        stop = min(len(body), int(last) + 1) if first and last else len(body)
        return _response(
            "206 Partial Content",
            body[start:stop],
            _etag(body),
            extra=f"Content-Range: bytes {start}-{stop - 1}/{len(body)}\r\n",
        )

    def _send(self, fileno, answer):
        connection = self.connections.get(fileno)
        if connection is None:
            return
        try:
            sent = connection.send(answer)
            if sent < len(answer):
                connection.setblocking(True)
                connection.sendall(answer[sent:])
                connection.setblocking(False)
        except ConnectionError:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--hours", type=int, default=1, help="hours over which the objects are spread")
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--kind", choices=list(KINDS), default="telemetry", help="what the messages are")
    parser.add_argument("--latency-ms", type=float, default=0, help="milliseconds that every answer waits")
    parser.add_argument(
        "--page-latency-ms",
        type=float,
        help="milliseconds that a page of a listing waits; as long as every answer, unless told",
    )
    parser.add_argument("--batches-of-mb", type=int, default=0, help="megabytes of a batch object, of all messages")
    parser.add_argument("--older", type=int, default=0, help="objects of the hours before, under the same prefix")
    arguments = parser.parse_args()
    kept = batches(arguments.objects, dirty=arguments.dirty, megabytes=arguments.batches_of_mb)
    kept = (
        kept
        if arguments.batches_of_mb
        else chain(
            messages(arguments.objects, dirty=arguments.dirty, hours=arguments.hours, kind=arguments.kind),
            older(arguments.older),
        )
    )
    bucket = Bucket((f"/{BUCKET}/{key}", payload) for key, payload in kept)
    page_latency_ms = arguments.latency_ms if arguments.page_latency_ms is None else arguments.page_latency_ms
    server = Server(bucket, arguments.port, arguments.latency_ms / 1000, page_latency_ms / 1000)
    print("ready", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
