"""How an upload is laid out, recognised from its beginning: encoding, delimiter, header, which column is which.

The layout of a campaign's upload: which column feeds which variable, as its maker said or as the names tell.

What a recipients file looks like, told from its beginning before anything is imported: the same recognition as the import's.

Nothing is taken from a row: what is told may be kept where the file itself is kept encrypted.
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
"""Bytes of the beginning to recognise a layout from: more than the longest record in any encoding."""
NO_ROWS = "The file holds no recipients: there is no row after the header."
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


@dataclass(frozen=True, slots=True)
class Header:
    """What the beginning of an upload tells before anybody says which column is which."""

    encoding: Encoding
    delimiter: str
    skip: int
    """As in `Layout`."""
    names: tuple[str, ...]
    """One a column."""
    named: bool
    """Whether the file names them itself; else they are numbered."""
    rows: Sequence[Record]
    """The first rows: a sample. May be empty."""


def detect_layout(head: bytes, *, whole: bool, asked_for: str | None, wanted: Sequence[str]) -> Layout:
    """The layout of an upload that begins with `head` (`HEAD_BYTES` of it, or `whole`). `asked_for` names the column of
    addresses, `wanted` are the names the template uses. `Invalid` with what is wrong and what to do."""
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
    """Encoding, delimiter and the columns' names; `head` as for `recognise`. `Invalid`: no delimited text, or nothing in it."""
    encoding = detect_encoding(head)
    delimiter, sample, declared = _delimit(head, encoding, whole=whole)
    if not sample:
        raise Invalid("The file holds no recipients: there is nothing in it.")
    first = sample[0][1]
    named = not any(map(is_address, first))  # a header holds no address: this would be a row of a file without one
    rows = sample[1:] if named else sample
    names = header_names(first) if named else numbered_names(max(len(cells) for _, cells in sample))
    return Header(encoding, delimiter, declared + len(sample) - len(rows), names, named, rows)


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
        for record in islice(records_within(head, encoding, delimiter, whole=whole), _SAMPLED):
            records.append(record)  # noqa: PERF402 - what was read before an error is kept
    except Invalid as error:
        return _Sample(records, error)
    return _Sample(records)


def records_within(head: bytes, encoding: Encoding, delimiter: str, *, whole: bool) -> Iterator[Record]:
    """The records that end within `head`: where it is not `whole`, a record it cuts off is none, and no error either."""
    with suppress(_HeadEnds):
        yield from read_records(_texts(head, encoding, whole=whole), delimiter)


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


def layout_for(spec: CampaignSpec, source: Import, head: bytes, *, whole: bool) -> Layout:
    """As `detect_layout`. `Invalid` also for a heading that was named for a variable and does not exist: a typing error there
    must not become empty text in everybody's mail."""
    layout = detect_layout(head, whole=whole, asked_for=spec.email_column, wanted=spec.headings_of(source.columns))
    headings = dict(spec.headings)
    for name, column in zip(source.columns, layout.columns, strict=True):
        if column is None and name in headings:
            raise Invalid(f"There is no column {headings[name]!r} for the variable {name!r} in {source.filename}.")
    return layout


_NAMES_BYTES = 40_000
"""A record holds 100 KB in all."""
_NAME_SHOWN = 200


def inspect_file(head: bytes, size: int) -> Inspection:
    """Of a file of `size` bytes that begins with `head` (`layout.HEAD_BYTES` of it, or all)."""
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
    """The rows of a file given from its first byte, by column name, cells trimmed as the import does. A cell that the row
    does not have is left out. `Invalid` names the line that cannot be read."""
    records = read_records(decode(blocks, heading.encoding), heading.delimiter)
    for _, cells in islice(records, heading.skip, None):
        yield {name: cell.strip() for name, cell in zip(heading.names, cells, strict=False)}


def _count(head: bytes, heading: Header, *, whole: bool) -> tuple[int, str | None]:
    """Rows in `head`, and why there are no more than these."""
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
    """As many as a record has room for."""
    shown: list[str] = []
    room = _NAMES_BYTES
    for name in names:
        cut = name[:_NAME_SHOWN]
        room -= len(cut.encode()) + 3
        if room < 0:
            break
        shown.append(cut)
    return tuple(shown)
