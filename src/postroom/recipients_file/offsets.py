"""Where in an upload's bytes a line begins: told while the upload is read, so that any part of it can be read alone later.

Lines are counted as the reader of records counts them, in the decoded text; where one begins is then looked up in the bytes it
came from, of which only the last few megabytes are kept. What `decode` says of parts holds here: right after a line end,
a file decodes as it does within the whole.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from postroom.recipients_file.encoding import Encoding, decode
from postroom.recipients_file.records import MAX_RECORD

KEPT_BYTES = 4 * MAX_RECORD + 1_048_576
"""More than the longest record, and what is read ahead of it."""

# As `decode` leaves them: NUL characters are taken out, so one within a CRLF divides nothing.
_LINE_END = re.compile("\r\0*\n|\r|\n")
_REST_OF_CRLF = re.compile("\0*\n")
_OPEN_CR = re.compile("\r\0*\\Z")


class _Block(NamedTuple):
    start: int
    raw: bytes
    lines: int
    """Line ends before it, a CR that ends the text before included."""
    after_cr: bool
    """Whether the text before ends in one: then an LF at the beginning is its other half."""


class Offsets:
    """Of one upload, read from its beginning."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._unit = {"utf-16": 2, "utf-32": 4}.get(encoding.codec[:6], 1)
        self._kept: deque[_Block] = deque()
        self._kept_bytes = 0
        self._lines = 0
        self._after_cr = False
        self.read = 0
        """Bytes so far: a little ahead of the record that is being looked at."""

    def decode(self, blocks: Iterable[bytes]) -> Iterator[str]:
        """As `encoding.decode`."""
        for text in decode(self._watched(blocks), self._encoding):
            self._lines += text.count("\n") + text.count("\r") - text.count("\r\n")
            if text:
                self._lines -= self._after_cr and text[0] == "\n"
                self._after_cr = text[-1] == "\r"
            yield text

    def of(self, line: int) -> int | None:
        """The byte that line (from 1) begins at. None: it is too far back to tell, or stands where two blocks meet in a way that
        leaves it open; any other line will do."""
        if line == 1:
            return self._encoding.bom
        block = next((block for block in reversed(self._kept) if block.lines < line - 1), None)
        return None if block is None or block.start % self._unit else self._within(block, line - 1 - block.lines)

    def _within(self, block: _Block, count: int) -> int | None:
        """After the line end that is the `count`-th of the block."""
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
    """One character for each unit of the encoding: line ends and NUL are what they are, of the rest only that it is neither."""
    if unit == 1:
        return raw.decode("latin-1")
    units = array("H" if unit == 2 else "I", raw[: len(raw) - len(raw) % unit])
    if codec.endswith("be") == (sys.byteorder == "little"):
        units.byteswap()
    return "".join(chr(min(number, sys.maxunicode)) for number in units)
