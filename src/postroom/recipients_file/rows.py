"""Turns records into messages or rejected rows. Pure, so that any range of an upload can be processed anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import orjson

from postroom.model.address import AddressError, AddressProblem, parse_address, trim
from postroom.model.batch import batch_of
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.recipients_file.layout import Layout
from postroom.recipients_file.records import Record

SHOWN = 320
"""Characters kept of a rejected cell: more than the longest address."""
MAX_VALUES_BYTES = 65_536
"""Bytes of a row's cells as JSON in UTF-8."""
DUPLICATE = "duplicate"
SUPPRESSED = "suppressed"
VALUES_TOO_LONG = "values_too_long"
NO_CELL = "The row has no cell in the column of addresses."


class Reject(NamedTuple):
    """A rejected row."""

    line: int
    address: str
    """The cell as in the upload, up to `SHOWN` characters; or the mailbox, if it was parsed."""
    reason: str
    """A `model.address.AddressProblem`, or one of this module's codes."""
    detail: str
    """A sentence."""


class Rows(NamedTuple):
    """The results, in the records' order."""

    messages: list[MessageRow]
    rejects: list[Reject]


def read_rows(
    records: Iterable[Record], layout: Layout, key_of: Callable[[str], Key], *, batches: int, values_bytes: int = sys.maxsize
) -> Rows:
    """Process records up to and including the one whose values fill `values_bytes`. Where that is depends only on the records."""
    room = values_bytes
    messages: list[MessageRow] = []
    rejects: list[Reject] = []
    column = layout.address
    columns = [sys.maxsize if index is None else index for index in layout.columns]  # beyond the end of any row
    dumps = orjson.dumps
    for line, cells in records:
        width = len(cells)
        try:
            address = parse_address(cells[column] if column < width else "")
        except AddressError as error:
            rejects.append(_invalid(line, cells, column, error))
            continue
        values = dumps([cells[index].strip() if index < width else None for index in columns])
        if len(values) > MAX_VALUES_BYTES:
            detail = f"The values of the row take {len(values):,} bytes: more than {MAX_VALUES_BYTES:,}."
            rejects.append(Reject(line, address.mailbox, VALUES_TOO_LONG, detail))
            continue
        key = key_of(address.normalised)
        messages.append(MessageRow(batch_of(key, batches), key, line, address.mailbox, address.name, values.decode()))
        room -= len(values)
        if room <= 0:
            break
    return Rows(messages, rejects)


def _invalid(line: int, cells: list[str], column: int, error: AddressError) -> Reject:
    if column >= len(cells):
        return Reject(line, "", AddressProblem.EMPTY.value, NO_CELL)
    return Reject(line, trim(cells[column])[:SHOWN], error.reason.value, str(error))
