"""Detects a recipients file's layout from its beginning: encoding, delimiter, header and columns.

Inspection and import use the same detection. An `Inspection` contains nothing from a row, because it may be stored where the file
itself is encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from postroom.errors import Invalid
from postroom.model.campaign import CampaignSpec, Import
from postroom.model.upload import Inspection
from postroom.recipients_file.columns import address_column, find_column, header_names, is_address, numbered_names
from postroom.recipients_file.encoding import Encoding, decode, detect_encoding
from postroom.recipients_file.records import MAX_RECORD, Record, read_records

HEAD_BYTES = 4 * MAX_RECORD + 1_024
"""Bytes needed to detect a layout: more than the longest record in any encoding."""
NO_ROWS = "The file holds no recipients: there is no row after the header."
_DELIMITERS = ",;\t|"
_SAMPLED = 200
_BLOCK = 65_536


# Excel's own way to name the delimiter, on a line before the header. A quote, a blank or a letter can delimit nothing.
_DECLARED = re.compile(r"\s*\"?sep=([^\w \"'])\"?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read the rows."""

    encoding: Encoding
    delimiter: str
    skip: int
    """Records before the first row: the header, and Excel's `sep=;`."""
    address: int
    """The column of addresses, from 0."""
    columns: tuple[int | None, ...]
    """For each of the template's names, its column; None if there is none."""


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of an upload, before columns are assigned."""

    encoding: Encoding
    delimiter: str
    skip: int
    """As in `Layout`."""
    names: tuple[str, ...]
    """One per column."""
    named: bool
    """Whether the names come from the file; else they are numbered."""
    rows: Sequence[Record]
    """The first rows, possibly none."""


def detect_layout(head: bytes, *, whole: bool, asked_for: str | None, wanted: Sequence[str]) -> Layout:
    """The layout of an upload that begins with `head` (`HEAD_BYTES` of it, or `whole`).

    `asked_for`: the address column. `wanted`: the template's names. Raises `Invalid`."""
    heading = read_header(head, whole=whole)
    if not heading.rows:
        raise Invalid(NO_ROWS)
    return Layout(
        encoding=heading.encoding,
        delimiter=heading.delimiter,
        skip=heading.skip,
        address=address_column(heading.names, [cells for _, cells in heading.rows], asked_for),
        columns=tuple(find_column(heading.names, name) for name in wanted),
    )


def read_header(head: bytes, *, whole: bool) -> Header:
    """Encoding, delimiter and column names; `head` as for `detect_layout`. Raises `Invalid` for other files."""
    encoding = detect_encoding(head)
    delimiter, sample, declared = _delimit(head, encoding, whole=whole)
    if not sample:
        raise Invalid("The file holds no recipients: there is nothing in it.")
    first = sample[0][1]
    named = not any(map(is_address, first))  # a header contains no address; a first row that does is data
    rows = sample[1:] if named else sample
    names = header_names(first) if named else numbered_names(max(len(cells) for _, cells in sample))
    return Header(encoding, delimiter, declared + len(sample) - len(rows), names, named, rows)


class _HeadEnds(Exception):
    """`head` ended within a record."""


def _delimit(head: bytes, encoding: Encoding, *, whole: bool) -> tuple[str, list[Record], int]:
    """The delimiter, the first records with it, and the number of records before them that declare it."""
    first_line = next(iter("".join(islice(_texts(head, encoding, whole=True), 1)).splitlines()), "")
    if declared := _DECLARED.fullmatch(first_line):
        return declared[1], _sample(head, encoding, declared[1], whole=whole).checked()[1:], 1
    samples = {delimiter: _sample(head, encoding, delimiter, whole=whole) for delimiter in _DELIMITERS}
    best = max(samples, key=lambda delimiter: _fitness(samples[delimiter].records))
    return best, samples[best].checked(), 0


class _Sample(NamedTuple):
    """The first records with a delimiter, and the error that ended them: a wrong delimiter finds wrong quotes."""

    records: list[Record]
    error: Invalid | None = None

    def checked(self) -> list[Record]:
        if self.error is not None:
            raise self.error
        return self.records


def _sample(head: bytes, encoding: Encoding, delimiter: str, *, whole: bool) -> _Sample:
    records: list[Record] = []
    try:
        for record in islice(records_within(head, encoding, delimiter, whole=whole), _SAMPLED):
            records.append(record)  # noqa: PERF402 - what was read before an error is kept
    except Invalid as error:
        return _Sample(records, error)
    return _Sample(records)


def records_within(head: bytes, encoding: Encoding, delimiter: str, *, whole: bool) -> Iterator[Record]:
    """The records that end within `head`. Unless it is `whole`, a record cut off at its end is left out."""
    with suppress(_HeadEnds):
        yield from read_records(_texts(head, encoding, whole=whole), delimiter)


def _texts(head: bytes, encoding: Encoding, *, whole: bool) -> Iterator[str]:
    blocks = (head[at : at + _BLOCK] for at in range(0, len(head), _BLOCK))
    yield from decode(blocks, encoding)
    if not whole:
        raise _HeadEnds


def _fitness(sample: Sequence[Record]) -> tuple[bool, float, float, int]:
    """How well a delimiter fits the sample: several columns, cells that are addresses, rows as wide as the header."""
    if not sample:
        return (False, 0.0, 0.0, 0)
    width = len(sample[0][1])
    addressed = sum(any(map(is_address, cells)) for _, cells in sample) / len(sample)
    even = sum(len(cells) == width for _, cells in sample) / len(sample)
    return (width > 1, addressed, even, width)


def layout_for(spec: CampaignSpec, source: Import, head: bytes, *, whole: bool) -> Layout:
    """As `detect_layout`, for a campaign. Also raises `Invalid` if a heading assigned to a variable does not exist: a typing
    error must not become empty text in every message."""
    layout = detect_layout(head, whole=whole, asked_for=spec.email_column, wanted=spec.headings_of(source.columns))
    headings = dict(spec.headings)
    for name, column in zip(source.columns, layout.columns, strict=True):
        if column is None and name in headings:
            raise Invalid(f"There is no column {headings[name]!r} for the variable {name!r} in {source.filename}.")
    return layout


_NAMES_BYTES = 40_000
"""A stored record has at most 100 KB."""
_NAME_SHOWN = 200


def inspect_file(head: bytes, size: int) -> Inspection:
    """Inspect a file of `size` bytes that begins with `head` (`HEAD_BYTES` of it, or all)."""
    whole = len(head) == size
    try:
        heading = read_header(head, whole=whole)
    except Invalid as error:
        return Inspection(problems=(str(error),))
    rows, broken = _count(head, heading, whole=whole)
    address, problems = _address(heading)
    return Inspection(
        encoding=heading.encoding.codec,
        delimiter=heading.delimiter,
        header=heading.named,
        columns=_shown(heading.names),
        column_count=len(heading.names),
        address_column=address,
        rows=None if broken else rows if whole else round(rows * size / len(head)),
        rows_exact=whole and broken is None,
        problems=(*problems, *([broken] if broken else [])),
    )


def named_rows(blocks: Iterable[bytes], heading: Header) -> Iterator[dict[str, str]]:
    """The rows by column name, cells trimmed as in an import; missing cells are left out. Raises `Invalid` with the line."""
    records = read_records(decode(blocks, heading.encoding), heading.delimiter)
    for _, cells in islice(records, heading.skip, None):
        yield {name: cell.strip() for name, cell in zip(heading.names, cells, strict=False)}


def _count(head: bytes, heading: Header, *, whole: bool) -> tuple[int, str | None]:
    """The number of rows in `head`, and the error that ended them, if any."""
    rows = -heading.skip
    try:
        for _ in records_within(head, heading.encoding, heading.delimiter, whole=whole):
            rows += 1
    except Invalid as error:
        return rows, str(error)
    return rows, None


def _address(heading: Header) -> tuple[str | None, Sequence[str]]:
    if not heading.rows:
        return None, (NO_ROWS,)
    try:
        found = address_column(heading.names, [cells for _, cells in heading.rows], None)
    except Invalid as error:
        return None, (str(error),)
    return heading.names[found][:_NAME_SHOWN], ()


def _shown(names: Sequence[str]) -> tuple[str, ...]:
    """As many names as a record has room for."""
    shown: list[str] = []
    room = _NAMES_BYTES
    for name in names:
        cut = name[:_NAME_SHOWN]
        room -= len(cut.encode()) + 3
        if room < 0:
            break
        shown.append(cut)
    return tuple(shown)
