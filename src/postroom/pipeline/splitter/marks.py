"""How far each group of a divided import is. One item a group; it only moves forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt
from postroom.ledger.collection import every
from postroom.model.campaign import CampaignRef
from postroom.pipeline.splitter.checkpoint import Sums
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables

_TRIES = 10
_KEPT_MS: Final = 30 * 86_400_000
"""A mark that somebody late leaves behind is gone by itself; no import takes that long."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One group's."""

    chunks: int = 0
    """Chunks that are stored, and their part of the report."""
    ranges: int = 0
    """Ranges whose rows are in them: the next chunk begins with this one's."""
    sums: Sums = field(default_factory=Sums)
    counted: bool = False
    """Its batches were counted after the last chunk: nothing is left to do."""


class Marks:
    """Where groups keep their place."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def load(self, ref: CampaignRef, group: int) -> Mark:
        """How far it is; at the beginning where nothing was saved."""
        item = self._tables.get(_key(ref, group))
        return Mark() if item is None else _mark(item)

    def save(self, ref: CampaignRef, group: int, mark: Mark) -> None:
        """It is this far, unless it is further."""
        expires = Instant(self._clock.now() + _KEPT_MS)
        for _ in range(_TRIES):
            item = self._tables.get(_key(ref, group))
            if item is not None and _order(_mark(item)) >= _order(mark):
                return
            try:
                expect = Expect.ABSENT if item is None else item.version
                self._tables.write([Put(_key(ref, group), _data(mark), expect, expires)])
            except Conflict:  # another is at work on the same group: look again
                continue
            return
        raise Conflict(f"the import of campaign {ref.campaign} is at work in several places; try again")

    def all(self, ref: CampaignRef) -> list[Mark]:
        """Of every group that was begun."""
        return [_mark(item) for item in self._items(ref)]

    def forget(self, ref: CampaignRef) -> None:
        """The import has ended."""
        doomed = [Delete(item.key) for item in self._items(ref)]
        for first in range(0, len(doomed), MAX_WRITES):
            self._tables.write(doomed[first : first + MAX_WRITES])

    def _items(self, ref: CampaignRef) -> list[Item]:
        return list(every(self._tables, _partition(ref)))


def _order(mark: Mark) -> tuple[int, bool]:
    return mark.chunks, mark.counted


def _partition(ref: CampaignRef) -> str:
    return f"{ref.tenant}#imports#{ref.campaign}"


def _key(ref: CampaignRef, group: int) -> ItemKey:
    return ItemKey(_partition(ref), f"{group:06}")


def _data(mark: Mark) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(mark)
    return data


def _mark(item: Item) -> Mark:
    try:
        return msgspec.convert(item.data, Mark)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the progress of group {item.key.sort} of {item.key.partition} cannot be read: {error}") from error
