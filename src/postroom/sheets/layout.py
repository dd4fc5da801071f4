"""How an upload is laid out, recognised from its beginning: encoding, delimiter, header, which column is which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from postroom.errors import Invalid
from postroom.sheets.columns import address_column, find_column, header_names, is_address, numbered_names
from postroom.sheets.encoding import Encoding, decode, detect
from postroom.sheets.records import MAX_RECORD, Record, read_records

HEAD_BYTES = 4 * MAX_RECORD + 1_024
"""Bytes of the beginning to recognise a layout from: more than the longest record in any encoding."""

_DELIMITERS = ",;\t|"
_SAMPLED = 200
_BLOCK = 65_536
# Excel's own way to name the delimiter, on a line before the header. A quote, a blank or a letter can delimit nothing.
_DECLARED = re.compile(r"\s*\"?sep=([^\w \"'])\"?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """What it takes to read the rows."""

    encoding: Encoding
    delimiter: str
    skip: int
    """Records before the first row: the header, and Excel's `sep=;`."""
    address: int
    """The column of addresses, from 0."""
    columns: tuple[int | None, ...]
    """For each name the template uses, its column; None where there is none."""


def recognise(head: bytes, *, whole: bool, asked_for: str | None, wanted: Sequence[str]) -> Layout:
    """The layout of an upload that begins with `head` (`HEAD_BYTES` of it, or `whole`). `asked_for` names the column of
    addresses, `wanted` are the names the template uses. `Invalid` with what is wrong and what to do."""
    encoding = detect(head)
    delimiter, sample, declared = _delimit(head, encoding, whole=whole)
    if not sample:
        raise Invalid("The file holds no recipients: there is nothing in it.")
    first = sample[0][1]
    if any(map(is_address, first)):  # a header holds no address: this is a row, and the file has no header
        rows, names = sample, numbered_names(max(len(cells) for _, cells in sample))
    else:
        rows, names = sample[1:], header_names(first)
    if not rows:
        raise Invalid("The file holds no recipients: there is no row after the header.")
    return Layout(
        encoding=encoding,
        delimiter=delimiter,
        skip=declared + len(sample) - len(rows),
        address=address_column(names, [cells for _, cells in rows], asked_for),
        columns=tuple(find_column(names, name) for name in wanted),
    )


class _HeadEnds(Exception):
    """The bytes at hand are used up, but not the file."""


def _delimit(head: bytes, encoding: Encoding, *, whole: bool) -> tuple[str, list[Record], int]:
    """The delimiter, the first records under it, and how many records before them declare it."""
    first_line = next(iter("".join(islice(_texts(head, encoding, whole=True), 1)).splitlines()), "")
    if declared := _DECLARED.fullmatch(first_line):
        return declared[1], _sample(head, encoding, declared[1], whole=whole).checked()[1:], 1
    samples = {delimiter: _sample(head, encoding, delimiter, whole=whole) for delimiter in _DELIMITERS}
    best = max(samples, key=lambda delimiter: _fitness(samples[delimiter].records))
    return best, samples[best].checked(), 0


class _Sample(NamedTuple):
    """The first records under some delimiter, and the error that ended them: a wrong delimiter finds wrong quotes."""

    records: list[Record]
    error: Invalid | None = None

    def checked(self) -> list[Record]:
        if self.error is not None:
            raise self.error
        return self.records


def _sample(head: bytes, encoding: Encoding, delimiter: str, *, whole: bool) -> _Sample:
    records: list[Record] = []
    try:
        for record in islice(read_records(_texts(head, encoding, whole=whole), delimiter), _SAMPLED):
            records.append(record)  # noqa: PERF402 - what was read before the head ends is kept
    except _HeadEnds:
        pass
    except Invalid as error:
        return _Sample(records, error)
    return _Sample(records)


def _texts(head: bytes, encoding: Encoding, *, whole: bool) -> Iterator[str]:
    blocks = (head[at : at + _BLOCK] for at in range(0, len(head), _BLOCK))
    yield from decode(blocks, encoding)
    if not whole:
        raise _HeadEnds


def _fitness(sample: Sequence[Record]) -> tuple[bool, float, float, int]:
    """How well a delimiter explains the sample: it makes columns, cells that are addresses, rows as wide as the header."""
    if not sample:
        return (False, 0.0, 0.0, 0)
    width = len(sample[0][1])
    addressed = sum(any(map(is_address, cells)) for _, cells in sample) / len(sample)
    even = sum(len(cells) == width for _, cells in sample) / len(sample)
    return (width > 1, addressed, even, width)
