"""An hour's memory: blocks that stay small once they are parsed, and a prompt return of what is no longer used.

Allocators keep what was used for a while, and of all that was ever used at once the most: after 100 MB of messages of
128 KB, Arrow's pool held 216 MB of which nothing was in use.
"""

import ctypes
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

from fleet_pipeline.lake.encodings import GZIP, unpacked_bytes

PARSED_BYTES = 96 * 1024 * 1024
"""Bytes that the parsed messages of one block may take."""

GROWTH = 36
"""Times as much memory as its bytes that a parsed message takes: `{"":{"":0}}` takes 5 bytes an object, of which Python
makes 184.
"""

OBJECT_BYTES, ARRAY_BYTES, FIELD_BYTES, ITEM_BYTES = 192, 88, 110, 40
"""What Python and msgspec make of a {, a [, a : and a comma, strings apart.

They are only counted: one within a string counts, too.
"""

_TEXT = frozenset(b'{["-0123456789tfnNI \t\r\n')
"""How JSON texts begin."""

GIVE_BACK_EVERY = 16 * 1024 * 1024
"""Bytes of messages after which unused memory is given back. To get a page anew costs 0.1 µs a KB."""

_libc = ctypes.CDLL(None)


def blocks_of(payloads: Sequence[bytes | None]) -> Iterator[slice]:
    """Yield where to cut some messages, in their order, so that each piece takes at most `PARSED_BYTES` once it is
    parsed, or is one message.
    """
    said = list(filter(None, payloads))
    if all(payload[0] in _TEXT for payload in said):
        whole = b"".join(said)
        if (
            GROWTH * len(whole) <= PARSED_BYTES or parsed_bytes(whole) <= PARSED_BYTES
        ):  # message by message it takes more than twice as long
            yield slice(0, len(payloads))
            return
        del whole
    start = parsed = 0
    for place, payload in enumerate(payloads):
        size = parsed_bytes(payload) if payload else 0
        if parsed and parsed + size > PARSED_BYTES:
            yield slice(start, place)
            start, parsed = place, 0
        parsed += size
    yield slice(start, len(payloads))


def parsed_bytes(payload: bytes) -> int:
    """Return about how many bytes a message takes once it is parsed, rather too many than too few; of one that is no
    text, the most that so many bytes can take.
    """
    if payload[0] not in _TEXT:
        return GROWTH * (unpacked_bytes(payload) if payload.startswith(GZIP) else len(payload))
    objects, arrays, fields, items = (payload.count(mark) for mark in (b"{", b"[", b":", b","))
    return 2 * len(payload) + OBJECT_BYTES * objects + ARRAY_BYTES * arrays + FIELD_BYTES * fields + ITEM_BYTES * items


def give_back() -> None:
    """Give unused memory back to the system: Arrow's and, where the C library can do it, Python's."""
    pa.default_memory_pool().release_unused()
    if trim := getattr(_libc, "malloc_trim", None):
        trim(0)


@dataclass(slots=True)
class Used:
    """How much was used since memory was given back."""

    bytes: int = 0

    def note(self, size: int) -> None:
        """Count bytes that are no longer needed; give back when they are many."""
        self.bytes += size
        if self.bytes >= GIVE_BACK_EVERY:
            give_back()
            self.bytes = 0


SEEK_GARBAGE_AFTER = 50_000
"""New objects between two searches for cycles, where Python's default is 700.

Messages, versions and requests are freed without any search,
yet are searched while they live: 8 % of an hour's processor time.
"""


class _GarbageSeldomSought:
    """Have the garbage collector pass over what was there before, and look seldom at what comes, while any hour of the
    process is at work.
    """

    def __init__(self) -> None:
        self._lock, self._at_work, self._usual = Lock(), 0, gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            self._at_work += 1
            if self._at_work == 1:
                self._usual = gc.get_threshold()
                gc.freeze()
                gc.set_threshold(SEEK_GARBAGE_AFTER, *self._usual[1:])

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._at_work -= 1
            if self._at_work == 0:
                gc.set_threshold(*self._usual)
                gc.unfreeze()


garbage_seldom_sought = _GarbageSeldomSought()
"""One for the process: hours may be compacted within each other and in several threads."""
