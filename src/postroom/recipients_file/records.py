"""Reads the records of a delimited text with their line numbers, and finds the byte offsets of lines.

Quoting follows RFC 4180 and tolerates what spreadsheets and people add: any of CRLF, LF and CR ends a line; blanks before a
quote; text after a closing quote. The last is accepted within one line only: in a record of several lines it means that a quote
was never closed and has swallowed rows, and so does a quote still open at the end. Both are refused with the line of the quote.
Memory is bounded: a record over `MAX_RECORD` characters is refused before it is read whole.

`LineOffsets` finds where a line begins while the upload is read, so that any part can be read alone later. Lines are counted in
the decoded text, then looked up in its bytes, of which the last few megabytes are kept. After a line end, a part decodes as
within the whole (recipients_file.encoding).
"""

from __future__ import annotations

import csv
import io
import re
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from postroom.errors import Invalid, TooLarge
from postroom.recipients_file.encoding import Encoding, decode

MAX_RECORD = 1_000_000
"""Characters, quotes and line ends included."""
Record = tuple[int, list[str]]
"""The line the record begins on, and its cells."""


def read_records(texts: Iterable[str], delimiter: str, *, first_line: int = 1) -> Iterator[Record]:
    """The records of a text given in parts that begins on `first_line`. Records without any character (a blank line, `,,,`) are
    skipped.

    Raises `Invalid` and `TooLarge` with the line."""
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_RECORD))  # our own limit is lower, and its error has the line
    held: list[str] = []
    feed = _feed(texts, held, first_line)
    reader = csv.reader(feed, delimiter=delimiter, strict=True, skipinitialspace=True)
    begin = first_line
    while True:
        try:
            for cells in reader:
                held.clear()
                if cells and (cells[0] or any(cells)):
                    yield begin, cells
                begin = first_line + reader.line_num
        except csv.Error as error:
            cells = _tolerate(held, begin, delimiter, error)
            held.clear()
            yield begin, cells
            begin = first_line + reader.line_num
        else:
            return


def _feed(texts: Iterable[str], held: list[str], first_line: int) -> Iterator[str]:
    """Lines for the csv reader, which takes another one only within a record. `held` is the record so far."""
    number, size = first_line - 1, 0
    for line in split_lines(texts, first_line):
        number += 1
        if held:
            size += len(line)
            if size > MAX_RECORD:
                raise _too_long(number - len(held), held)
        else:
            size = len(line)
        held.append(line)
        yield line


def split_lines(texts: Iterable[str], first_line: int = 1) -> Iterator[str]:
    """The text's lines with their ends (CRLF, LF or CR)."""
    rest, number = "", first_line
    for text in texts:
        rest += text
        # A CR at the very end may be half of a CRLF: it is kept for the next part.
        cut = max(rest.rfind("\n"), rest.rfind("\r", 0, len(rest) - 1)) + 1
        for line in io.StringIO(rest[:cut], newline=""):
            if len(line) > MAX_RECORD:
                raise _too_long(number, [])
            yield line
            number += 1
        rest = rest[cut:]
        if len(rest) > MAX_RECORD:
            raise _too_long(number, [])
    yield from io.StringIO(rest, newline="")


def _tolerate(held: list[str], begin: int, delimiter: str, error: csv.Error) -> list[str]:
    """The cells of a record that violates RFC 4180, if no row can be lost by accepting it."""
    ended = False

    def first_line() -> Iterator[str]:
        nonlocal ended
        yield held[0]
        ended = True  # the line ends within a quote

    cells = next(csv.reader(first_line(), delimiter=delimiter, skipinitialspace=True))
    if not ended:
        return cells
    opened = begin + _line_of_open_quote(held, delimiter)
    raise Invalid(
        f"The quote opened in line {opened} is not closed properly, so rows after it would be lost. "
        'Close it, or write a quote inside a quoted cell twice ("").'
    ) from error


def _too_long(begin: int, held: list[str]) -> TooLarge:
    hint = f" A quote opened in line {begin + _line_of_open_quote(held, ',')} may not be closed." if held else ""
    return TooLarge(f"The record in line {begin} is longer than {MAX_RECORD:,} characters.{hint}")


def _line_of_open_quote(lines: list[str], delimiter: str) -> int:
    """The index of the line with the last quote that opens a cell."""
    found, state = 0, "start"
    for index, line in enumerate(lines):
        for character in line:
            if state == "quoted":
                state = "quote" if character == '"' else "quoted"
            elif character == '"' and state in {"start", "quote"}:
                found = index if state == "start" else found  # two quotes within a quoted cell are one character
                state = "quoted"
            elif character == delimiter or character in "\r\n":
                state = "start"
            elif character != " " or state != "start":
                state = "plain"
    return found


KEPT_BYTES = 4 * MAX_RECORD + 1_048_576
"""More than the longest record and what is read ahead of it."""


# as in `decode`: NUL characters are removed first, so one within a CRLF does not split it
_LINE_END = re.compile("\r\0*\n|\r|\n")
_REST_OF_CRLF = re.compile("\0*\n")
_OPEN_CR = re.compile("\r\0*\\Z")


class _Block(NamedTuple):
    start: int
    raw: bytes
    lines: int
    """Line ends before it, a CR that ends the text before included."""
    after_cr: bool
    """Whether the text before ends in a CR: then a leading LF belongs to it."""


class LineOffsets:
    """The line offsets of one upload, read from its beginning."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._unit = {"utf-16": 2, "utf-32": 4}.get(encoding.codec[:6], 1)
        self._kept: deque[_Block] = deque()
        self._kept_bytes = 0
        self._lines = 0
        self._after_cr = False
        self.read = 0
        """Bytes read: a little ahead of the current record."""

    def decode(self, blocks: Iterable[bytes]) -> Iterator[str]:
        """As `encoding.decode`."""
        for text in decode(self._watched(blocks), self._encoding):
            self._lines += text.count("\n") + text.count("\r") - text.count("\r\n")
            if text:
                self._lines -= self._after_cr and text[0] == "\n"
                self._after_cr = text[-1] == "\r"
            yield text

    def offset_of(self, line: int) -> int | None:
        """The byte at which `line` (from 1) begins. None if it is too far back, or ambiguous between two blocks: use another
        line."""
        if line == 1:
            return self._encoding.bom
        block = next((block for block in reversed(self._kept) if block.lines < line - 1), None)
        return None if block is None or block.start % self._unit else self._within(block, line - 1 - block.lines)

    def _within(self, block: _Block, count: int) -> int | None:
        """The offset after the block's `count`-th line end."""
        text = _units(block.raw, self._encoding.codec, self._unit)
        rest = _REST_OF_CRLF.match(text) if block.after_cr else None
        ends = _LINE_END.finditer(text, rest.end() if rest else 0)
        end = next((end for number, end in enumerate(ends, 1) if number == count), None)
        if end is None or _OPEN_CR.match(text, end.start()):
            return None
        return block.start + end.end() * self._unit

    def _watched(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for raw in blocks:
            self._kept.append(_Block(self.read, raw, self._lines, self._after_cr))
            self.read += len(raw)
            self._kept_bytes += len(raw)
            while self._kept_bytes - len(self._kept[0].raw) >= KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popleft().raw)
            yield raw


def _units(raw: bytes, codec: str, unit: int) -> str:
    """One character per code unit: line ends and NUL unchanged, everything else replaced."""
    if unit == 1:
        return raw.decode("latin-1")
    units = array("H" if unit == 2 else "I", raw[: len(raw) - len(raw) % unit])
    if codec.endswith("be") == (sys.byteorder == "little"):
        units.byteswap()
    return "".join(chr(min(number, sys.maxunicode)) for number in units)
