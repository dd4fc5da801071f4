"""What one range of an upload became, in one object: its rows in a slice for each group of batches, and its rejected rows.

    head      magic, number of groups, rows, invalid rows
    index     where each slice begins and ends
    slices    one a group: messages in the order of their lines, MessagePack, deflated; nothing where there are none
    rejects   the same of rejected rows

One object a range, because it appears whole or not at all, and because a slice is then read by its place: thousands of small
objects would cost more to put than everything else here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from postroom.errors import Corrupt
from postroom.model.message import MessageRow
from postroom.recipients_file.rows import Reject, Rows

_HEAD = struct.Struct("<4sIII")
_BOUNDS = struct.Struct("<QQ")
_MAGIC = b"PRR1"
_FAST = 1
T = TypeVar("T")

Read = Callable[[int, int], bytes]
"""Reads so many bytes from a place."""


class Head(NamedTuple):
    """What is said first."""

    groups: int
    rows: int
    invalid: int


def pack(rows: Rows, group_of: Callable[[int], int], groups: int) -> bytes:
    """The object."""
    sorted_out: list[list[MessageRow]] = [[] for _ in range(groups)]
    for message in rows.messages:
        sorted_out[group_of(message.batch)].append(message)
    slices = [_deflated(messages) for messages in sorted_out]
    slices.append(_deflated(rows.rejects))
    places = [_HEAD.size + 8 * (len(slices) + 1)]
    for each in slices:
        places.append(places[-1] + len(each))
    head = _HEAD.pack(_MAGIC, groups, len(rows.messages) + len(rows.rejects), len(rows.rejects))
    return b"".join([head, struct.pack(f"<{len(places)}Q", *places), *slices])


def head(read: Read) -> Head:
    """How many rows there were. `Corrupt`."""
    magic, groups, rows, invalid = _unpacked(_HEAD, read(0, _HEAD.size))
    if magic != _MAGIC:
        raise Corrupt("what a range became cannot be read")
    return Head(groups, rows, invalid)


def messages_of(read: Read, group: int) -> list[MessageRow]:
    """One group's. `Corrupt`."""
    return _slice(read, group, MessageRow)


def rejects_of(read: Read) -> list[Reject]:
    """The rejected rows. `Corrupt`."""
    return _slice(read, head(read).groups, Reject)


def _slice(read: Read, number: int, kind: type[T]) -> list[T]:
    begin, end = _unpacked(_BOUNDS, read(_HEAD.size + 8 * number, _BOUNDS.size))
    if begin == end:
        return []
    try:
        return msgspec.msgpack.decode(zlib.decompress(read(begin, end - begin)), type=list[kind])  # type: ignore[valid-type]
    except (zlib.error, msgspec.DecodeError) as error:
        raise Corrupt(f"what a range became cannot be read: {error}") from error


def _deflated(records: Sequence[MessageRow] | Sequence[Reject]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(records), _FAST) if records else b""


def _unpacked(form: struct.Struct, data: bytes) -> tuple[Any, ...]:
    try:
        return form.unpack(data)
    except struct.error as error:
        raise Corrupt(f"what a range became cannot be read: {error}") from error
