"""A list of serials as people save it: one a line, or a table out of a spreadsheet, in the encodings that spreadsheets
write.

Understood is what can be read in one way only: UTF-8, UTF-16 and UTF-32, with or without a byte order mark; any line
ends; cells parted by semicolon, comma, tab or bar, in quotation marks or not; a heading. Where a heading names one
column of serials, that column counts and no other. A line with several serials and something else beside them can be
read in two ways, so it names nobody.

Standard library only: the command `fleet vehicle allowed` reads a list with this very file.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, the longer ones first: that of UTF-16 begins that of UTF-32."""

_WORKBOOK = b"PK\x03\x04"
"""What a zip file, and so an Excel or LibreOffice workbook, begins with."""

_SEPARATOR = re.compile(r"[;,\t|]")
_LINE = re.compile(r"[^\r\n]+")
_END = re.compile(r"[\r\n]")
_AROUND = " \t\u00a0\udca0\u200b\ufeff\"'="
"""What may stand around a serial: blanks (U+DCA0 is the no-break space of one-byte encodings), quotation marks, and the
= and ' of digits kept as text.
"""

_PEEK = 20
"""Lines that are looked at to tell a list that lacks one serial from one that has none."""


class Unclear(ValueError):
    """A list, or a line of it, that cannot be read, or can be read in two ways."""


@dataclass(frozen=True)
class SerialList:
    """A list's text, and the form of a serial (a regular expression)."""

    text: str
    form: str

    def names(self, serial: str) -> bool:
        """Say whether the list has this serial. Only lines in which it occurs are read. Raises Unclear."""
        unclear = None
        for line in self._lines_with(serial):
            try:
                if serial in self.of_line(line):
                    return True
            except Unclear as error:
                unclear = error
        if unclear:
            raise unclear
        if self.text.strip() and not any(
            self._clear(line[0]) for _, line in zip(range(_PEEK), _LINE.finditer(self.text), strict=False)
        ):
            raise Unclear("none of its first lines holds a serial of this fleet")
        return False

    def _lines_with(self, text: str) -> Iterator[str]:
        at = self.text.find(text)
        while at >= 0:
            begin = max(self.text.rfind(end, 0, at) for end in "\r\n") + 1
            end = _END.search(self.text, at)
            yield self.text[begin : end.start() if end else None]
            at = self.text.find(text, at + 1)

    def read(self) -> Iterator[tuple[int, list[str], str]]:
        """Yield each line that is not blank and no heading: its number, its serials, and what is wrong with it or
        nothing.
        """
        for number, line in enumerate(re.split(r"\r\n|\r|\n", self.text), 1):
            if not line.strip(_AROUND) or (line == self._first and self._is_heading):
                continue
            try:
                found = self.of_line(line)
                yield number, found, "" if found else "it holds no serial"
            except Unclear as error:
                yield number, [], str(error)

    def of_line(self, line: str) -> list[str]:
        """Return the serials of a line. Raises Unclear when it can be read in two ways."""
        cells, column = self._cells(line), self._column
        if column is not None:
            return [cell for cell in cells[column : column + 1] if self._is_serial(cell)]
        found = [cell for cell in cells if self._is_serial(cell)]
        if len(found) > 1 and (self._is_table or len(found) < sum(1 for cell in cells if cell)):
            raise Unclear("it holds several serials and something else, and no heading says which column counts")
        return found

    def line(self, serial: str) -> str:
        """Return a line that names a serial in this list."""
        return self._separator * (self._column or 0) + serial

    @cached_property
    def _first(self) -> str:
        return next((found[0] for found in _LINE.finditer(self.text) if found[0].strip(_AROUND)), "")

    @cached_property
    def _is_heading(self) -> bool:
        return not any(self._is_serial(cell) for cell in _split(self._first))

    @cached_property
    def _is_table(self) -> bool:
        return self._is_heading and len(_split(self._first)) > 1

    @cached_property
    def _column(self) -> int | None:
        """The one column that the heading calls that of the serials."""
        if not self._is_table:
            return None
        named = [place for place, cell in enumerate(self._cells(self._first)) if "seri" in cell.casefold()]
        return named[0] if len(named) == 1 else None

    def _cells(self, line: str) -> list[str]:
        if not self._is_table:
            return _split(line)
        return [cell.strip(_AROUND) for row in csv.reader([line], delimiter=self._separator) for cell in row]

    @cached_property
    def _separator(self) -> str:
        return max(";,\t|", key=self._first.count)

    def _is_serial(self, cell: str) -> bool:
        return re.fullmatch(self.form, cell, re.ASCII) is not None

    def _clear(self, line: str) -> bool:
        try:
            return bool(self.of_line(line))
        except Unclear:
            return False


def serial_list(body: bytes, form: str) -> SerialList:
    """Return the list that these bytes are. Raises Unclear for a workbook."""
    return SerialList(decoded(body), form)


def decoded(body: bytes) -> str:
    """Return the text.

    Bytes that are none become lone surrogates, so that encoding the text gives them back. Raises Unclear for a
    workbook.
    """
    if body.startswith(_WORKBOOK):
        raise Unclear("it is a workbook (or another zip file): save it as CSV")
    name = codec(body)
    return body.decode(name, errors="surrogateescape" if name.startswith("utf-8") else "replace")


def codec(body: bytes) -> str:
    """Return Python's name of the encoding. Serials are ASCII, so an unknown one-byte encoding may be read as UTF-8."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return name
    zeros = [b"\0" in body[:200][first::2] for first in (0, 1)]
    return {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get((zeros[0], zeros[1]), "utf-8")


def _split(line: str) -> list[str]:
    return [cell.strip(_AROUND) for cell in _SEPARATOR.split(line)]
