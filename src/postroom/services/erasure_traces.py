"""A person's traces in files: recipients files, reports of rejected rows, mails in the built-in inbox.

A person is known by key (model.shard), never by address: whoever asks for an erasure need not be remembered with it. A file of
recipients cannot lose a row and stay what its owner uploaded, so it is deleted as a whole; a report is written anew without
the person's lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from postroom.errors import Invalid, NotFound
from postroom.model import address
from postroom.model.ids import INBOX_PREFIX as INBOX
from postroom.model.ids import Key, key_maker
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.cells import unguarded
from postroom.recipients_file.encoding import decode
from postroom.recipients_file.layout import HEAD_BYTES, read_heading
from postroom.recipients_file.records import read_records
from postroom.services.mail_reading import read_headers

_BLOCK = 262_144
_MAIL_HEAD = 16_384
_CSV = "text/csv; charset=utf-8"
_ADDRESS_COLUMN = 1
_AT = ("@", "\uff20", "\ufe6b")  # full width, small
_LOOKS_LIKE_ONE = re.compile(r"[^\s,;<>\"|/]+@[^\s,;<>\"|/]+")
Beat = Callable[[], None]
"""Called every few thousand rows; what it raises ends the work."""
_BEAT_ROWS = 2_000
_Row = TypeVar("_Row")


class Traces:
    """One person's, of one tenant."""

    def __init__(self, objects: Objects, secret: bytes, key: Key, beat: Beat) -> None:
        self._objects = objects
        self._key_of = key_maker(secret)
        self._key = key
        self._beat = beat

    def in_cell(self, cell: str) -> bool:
        """Whether it holds the person's address, alone or among others."""
        if not any(at in cell for at in _AT):
            return False
        try:
            return self._key_of(address.parse_address(cell).normalised) == self._key
        except address.AddressError:
            return any(self.in_cell(part) for part in _LOOKS_LIKE_ONE.findall(cell) if part != cell)

    def in_recipients(self, key: str, version: str | None = None) -> bool:
        """Whether a recipients file has a row of theirs; also of one that cannot be read to its end, which nobody can use."""
        try:
            head = self._objects.read(key, 0, HEAD_BYTES, version)
            heading = read_heading(head, whole=len(head) < HEAD_BYTES)
            records = read_records(decode(self._blocks(key, version), heading.encoding), heading.delimiter)
            return any(any(map(self.in_cell, cells)) for _, cells in self._beating(records))
        except NotFound:
            return False
        except Invalid:
            return True

    def in_report(self, report: str, *, spare: str) -> bool:
        """Whether a report of rejected rows has lines of theirs. Finishes first what a killed `take_out_of_report` left."""
        if self._objects.info(spare) is not None:
            self._replace(report, spare)
        there = self._objects.info(report) is not None
        return there and any(map(self._is_their_line, self._beating(self._lines(report))))

    def take_out_of_report(self, report: str, *, spare: str) -> None:
        """Write it anew without their lines; no older version stays. By one at a time.

        The new report is whole under `spare` before the old one goes: a kill leaves it there, and `in_report` finishes it."""
        self._objects.put(spare, self._without_theirs(report), content_type=_CSV)
        self._replace(report, spare)

    def _replace(self, report: str, spare: str) -> None:
        self._objects.purge(report)
        self._objects.put(report, self._blocks(spare), content_type=_CSV)
        self._objects.purge(spare)

    def mails(self) -> Iterator[str]:
        """The mails to them in the built-in inbox, which knows no tenants: object keys."""
        cursor: str | None = None
        while True:
            page = self._objects.list(INBOX, cursor=cursor, limit=1_000)
            for info in page.objects:
                self._beat()
                if self._is_to_them(info.key):
                    yield info.key
            cursor = page.cursor
            if cursor is None:
                return

    def _is_to_them(self, mail: str) -> bool:
        try:
            head = self._objects.read(mail, 0, _MAIL_HEAD)
        except NotFound:  # deleted in this moment
            return False
        return any(self.in_cell(value) for name, value in read_headers(head) if name.lower() in {"delivered-to", "to"})

    def _beating(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for number, row in enumerate(rows):
            if number % _BEAT_ROWS == 0:
                self._beat()
            yield row

    def _without_theirs(self, report: str) -> Iterator[bytes]:
        return (line for line in self._beating(self._lines(report)) if not self._is_their_line(line))

    def _is_their_line(self, line: bytes) -> bool:
        cells = next(csv.reader([line.decode("utf-8", "replace")]), [])
        return len(cells) > _ADDRESS_COLUMN and self.in_cell(unguarded(cells[_ADDRESS_COLUMN]))

    def _lines(self, report: str) -> Iterator[bytes]:
        """Each row of a report is one line (pipeline.splitter.report)."""
        rest = b""
        for block in self._blocks(report):
            *lines, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _blocks(self, key: str, version: str | None = None) -> Iterator[bytes]:
        with closing(self._objects.open(key, version)) as stream:
            yield from iter(lambda: stream.read(_BLOCK), b"")
