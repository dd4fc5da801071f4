"""What the steps of a parallel import hand each other: objects below the campaign's prefix, deleted when the import ends.

    <tenant>/campaigns/<campaign>/import/work/<digest>.json            a list of ranges or groups to call the steps with
    <tenant>/campaigns/<campaign>/import/work/rows/<range>             the rows of a range, see below
    <tenant>/campaigns/<campaign>/import/work/rejected/<group>-<chunk> a group's part of the report: JSON lines, in order

No object is ever changed: a step that is done again finds it and leaves it. The object of a range:

    head      magic, number of groups, rows, invalid rows
    index     where each slice begins and ends
    slices    one per group: messages in the order of their lines, MessagePack, deflated; empty if there are none
    rejects   the same for rejected rows

One object per range, because it appears whole or not at all, and a slice can be read by its offset: thousands of small objects
would cost more to put than everything else here.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson

from postroom.errors import Conflict, Corrupt
from postroom.model.campaign import CampaignRef
from postroom.model.message import MessageRow
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.rows import Reject, Rows

_HEAD = struct.Struct("<4sIII")
_BOUNDS = struct.Struct("<QQ")
_MAGIC = b"PRR1"
_FAST = 1
T = TypeVar("T")
ReadRange = Callable[[int, int], bytes]
"""(offset, length) → bytes."""
_BLOCK = 262_144
"""Bytes of each group's part of the report in memory while the parts are merged."""


class RangeHeader(NamedTuple):
    """The head of a range's object."""

    groups: int
    rows: int
    invalid: int


def pack_range(rows: Rows, group_of: Callable[[int], int], groups: int) -> bytes:
    """The object of a range."""
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


def range_header(read: ReadRange) -> RangeHeader:
    """Read the head. Raises `Corrupt`."""
    magic, groups, rows, invalid = _unpacked(_HEAD, read(0, _HEAD.size))
    if magic != _MAGIC:
        raise Corrupt("the rows of a range cannot be read")
    return RangeHeader(groups, rows, invalid)


def messages_in_slice(read: ReadRange, group: int) -> list[MessageRow]:
    """The messages of one group. Raises `Corrupt`."""
    return _slice(read, group, MessageRow)


def rejects_in_range(read: ReadRange) -> list[Reject]:
    """The rejected rows. Raises `Corrupt`."""
    return _slice(read, range_header(read).groups, Reject)


def _slice(read: ReadRange, number: int, kind: type[T]) -> list[T]:
    begin, end = _unpacked(_BOUNDS, read(_HEAD.size + 8 * number, _BOUNDS.size))
    if begin == end:
        return []
    try:
        return msgspec.msgpack.decode(zlib.decompress(read(begin, end - begin)), type=list[kind])  # type: ignore[valid-type]
    except (zlib.error, msgspec.DecodeError) as error:
        raise Corrupt(f"the rows of a range cannot be read: {error}") from error


def _deflated(records: Sequence[MessageRow] | Sequence[Reject]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(records), _FAST) if records else b""


def _unpacked(form: struct.Struct, data: bytes) -> tuple[Any, ...]:
    try:
        return form.unpack(data)
    except struct.error as error:
        raise Corrupt(f"the rows of a range cannot be read: {error}") from error


class Exchange:
    """The objects of one campaign's import."""

    def __init__(self, objects: Objects, ref: CampaignRef) -> None:
        self._objects = objects
        self._prefix = f"{ref.tenant}/campaigns/{ref.campaign}/import/work/"

    def put_list(self, items: Sequence[Any]) -> str:
        """Store a list for a Distributed Map. Returns its key, a digest of its content."""
        content = msgspec.json.encode(items)
        key = f"{self._prefix}{hashlib.sha256(content).hexdigest()[:20]}.json"
        self._put(key, content, "application/json")
        return key

    def has_range(self, number: int) -> bool:
        """Whether the range was read already."""
        return self._objects.info(self._rows(number)) is not None

    def put_range(self, number: int, packed: bytes) -> None:
        """Store the rows of a range (`pack_range`)."""
        self._put(self._rows(number), packed, "application/octet-stream")

    def head_of(self, number: int) -> RangeHeader:
        """How many rows a range has. Raises `NotFound` if it was not read."""
        return range_header(self._read(number))

    def messages_of(self, number: int, group: int) -> list[MessageRow]:
        """A group's rows in a range. Raises `NotFound` if the range was not read."""
        return messages_in_slice(self._read(number), group)

    def rejects_of_range(self, number: int) -> list[Reject]:
        """The range's invalid rows, in order. Raises `NotFound` if it was not read."""
        return rejects_in_range(self._read(number))

    def put_rejects(self, group: int, chunk: int, rejects: Iterable[Reject]) -> None:
        """Store the chunk's part of the report."""
        lines = b"".join(orjson.dumps(reject, option=orjson.OPT_APPEND_NEWLINE) for reject in map(list, sorted(rejects)))
        self._put(self._rejected(group, chunk), lines, "application/jsonl")

    def rejects_of_group(self, group: int, chunks: int) -> Iterator[Reject]:
        """A group's suppressed and duplicate rows, in order."""
        for chunk in range(chunks):
            for line in self._lines(self._rejected(group, chunk)):
                yield Reject(*orjson.loads(line))

    def sweep(self) -> None:
        """Delete all of them."""
        self._objects.purge(self._prefix)

    def _rows(self, number: int) -> str:
        return f"{self._prefix}rows/{number:06}"

    def _rejected(self, group: int, chunk: int) -> str:
        return f"{self._prefix}rejected/{group:06}-{chunk:06}"

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        with suppress(Conflict):  # the same step was done before
            self._objects.put(key, content, content_type=content_type, if_absent=True)

    def _read(self, number: int) -> ReadRange:
        key = self._rows(number)
        return lambda start, length: self._objects.read(key, start, length)

    def _lines(self, key: str) -> Iterator[bytes]:
        """Reads a block at a time: hundreds of these are merged at once."""
        start, rest = 0, b""
        while block := self._objects.read(key, start, _BLOCK):
            start += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(block) < _BLOCK:
                return
