"""What the steps of a divided import hand each other, all of it below the campaign's own prefix, gone with the import.

<tenant>/campaigns/<campaign>/import/work/<digest>.json            a list of ranges, or of groups, for the steps to be called with
<tenant>/campaigns/<campaign>/import/work/rows/<range>             what a range became (slices.py)
<tenant>/campaigns/<campaign>/import/work/rejected/<group>-<chunk> a group's part of the report: JSON lines, in order

None is ever changed once it is there: who does a step again finds it, and leaves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import orjson

from postroom.errors import Conflict
from postroom.model.campaign import CampaignRef
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.slices import Head, Read, head, messages_of, rejects_of
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.rows import Reject

_BLOCK = 262_144
"""Of each group's part of the report in memory while they are merged."""


class Exchange:
    """One campaign's."""

    def __init__(self, objects: Objects, ref: CampaignRef) -> None:
        self._objects = objects
        self._prefix = f"{ref.tenant}/campaigns/{ref.campaign}/import/work/"

    def put_list(self, items: Sequence[Any]) -> str:
        """A list for a Distributed Map; its key, which its content gives."""
        content = msgspec.json.encode(items)
        key = f"{self._prefix}{hashlib.sha256(content).hexdigest()[:20]}.json"
        self._put(key, content, "application/json")
        return key

    def has_range(self, number: int) -> bool:
        """Whether the range was read."""
        return self._objects.info(self._rows(number)) is not None

    def put_range(self, number: int, packed: bytes) -> None:
        """What it became."""
        self._put(self._rows(number), packed, "application/octet-stream")

    def head_of(self, number: int) -> Head:
        """How many rows a range has. `NotFound`: it was not read."""
        return head(self._read(number))

    def messages_of(self, number: int, group: int) -> list[MessageRow]:
        """A group's rows in a range. `NotFound`: it was not read."""
        return messages_of(self._read(number), group)

    def rejects_of_range(self, number: int) -> list[Reject]:
        """The range's invalid rows, in order. `NotFound`: it was not read."""
        return rejects_of(self._read(number))

    def put_rejects(self, group: int, chunk: int, rejects: Iterable[Reject]) -> None:
        """The chunk's part of the report."""
        lines = b"".join(orjson.dumps(reject, option=orjson.OPT_APPEND_NEWLINE) for reject in map(list, sorted(rejects)))
        self._put(self._rejected(group, chunk), lines, "application/jsonl")

    def rejects_of_group(self, group: int, chunks: int) -> Iterator[Reject]:
        """A group's suppressed and duplicate rows, in order."""
        for chunk in range(chunks):
            for line in self._lines(self._rejected(group, chunk)):
                yield Reject(*orjson.loads(line))

    def sweep(self) -> None:
        """Delete it all."""
        self._objects.purge(self._prefix)

    def _rows(self, number: int) -> str:
        return f"{self._prefix}rows/{number:06}"

    def _rejected(self, group: int, chunk: int) -> str:
        return f"{self._prefix}rejected/{group:06}-{chunk:06}"

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        with suppress(Conflict):  # somebody did the same step
            self._objects.put(key, content, content_type=content_type, if_absent=True)

    def _read(self, number: int) -> Read:
        key = self._rows(number)
        return lambda start, length: self._objects.read(key, start, length)

    def _lines(self, key: str) -> Iterator[bytes]:
        """A block at a time: hundreds of these are merged at once."""
        start, rest = 0, b""
        while block := self._objects.read(key, start, _BLOCK):
            start += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(block) < _BLOCK:
                return
