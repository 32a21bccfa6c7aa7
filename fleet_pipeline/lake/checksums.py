"""Checksums of a whole Parquet file, in the file itself: a bit that flipped anywhere in it is seen.

Parquet has a checksum for the body of each page, and none for the footer and the page index. A damaged footer can end
the process that reads it: Arrow's reader of column metadata lets C++ exceptions through. So ours lie before the footer,
where no reader looks, and are compared before Arrow sees the file.

Source: the Parquet format, "File Format": readers find the footer by its length at the end of the file, and everything
else by offsets in the footer.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from fleet_pipeline.model.errors import PartDamaged

MARK = b"FLEETSUM"
"""How the checksums begin. Then come the SHA-256 of all bytes before the mark, and that of the footer and what follows
it.
"""

LENGTH = len(MARK) + 2 * sha256().digest_size

END = 8
"""Bytes after the footer: its length, and Parquet's mark."""

TAIL = 64 * 1024
"""Bytes that are read at once from a file's end. Most footers have fewer."""

LARGEST_FOOTER = 64 * 1024 * 1024
"""Bytes of a footer at most: one of 1,000 columns and 16 row groups has some 3 MB."""

PIECE = 8 * 1024 * 1024
"""Bytes that are hashed at once."""


def add_checksums(path: Path) -> None:
    """Write the checksums into a Parquet file that was just written. The same file gets the same bytes."""
    with path.open("r+b") as file:
        size = file.seek(-END, 2) + END
        footer = size - END - int.from_bytes(file.read(4), "little")
        file.seek(0)
        before = sha256()
        while piece := file.read(min(PIECE, footer - file.tell())):
            before.update(piece)
        rest = file.read()
        file.seek(footer)
        file.write(MARK + before.digest() + sha256(rest).digest() + rest)


class Ending:
    """The end of a file in a store: the footer and its checksums, read once.

    Raises PartDamaged when the footer is not what was written. A file of an earlier version of this package has no
    checksums: `checked` says so.
    """

    def __init__(self, key: str, size: int, read: Callable[[int, int], bytes]) -> None:
        self._key, self._size, self._read = key, size, read
        self._start = max(0, size - TAIL)
        self._bytes = read(self._start, size)
        length = int.from_bytes(self._bytes[-END:-4], "little")
        if length > LARGEST_FOOTER:
            raise PartDamaged(key, f"its footer is said to have {length} bytes")
        footer = size - END - length
        self._mark = footer - LENGTH
        if 0 <= self._mark < self._start:
            self._bytes = read(self._mark, self._start) + self._bytes
            self._start = self._mark
        found = self._bytes[self._mark - self._start :][:LENGTH] if self._mark >= 0 else b""
        self.checked = found.startswith(MARK)
        self._sums = found[len(MARK) :]
        if self.checked and sha256(self._bytes[footer - self._start :]).digest() != self._sums[32:]:
            raise PartDamaged(key, "its footer is not what was written")

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of the file."""
        if start >= self._start:
            return self._bytes[start - self._start : stop - self._start]
        return self._read(start, stop)

    def prove(self) -> None:
        """Read all that lies before the checksums, and compare it with them. Raises PartDamaged."""
        before = sha256()
        for start in range(0, self._mark, PIECE):
            before.update(self.read(start, min(start + PIECE, self._mark)))
        if before.digest() != self._sums[:32]:
            raise PartDamaged(self._key, "its pages are not what was written")
