"""How far an import is: the plan, frozen before the first row is stored, and the sums of the chunks that are done.

One item a campaign. The plan is written once, if absent; whoever finds it follows it. A chunk begins where the one before
ended, and ends where the plan and the rows themselves say: so it is the same range of rows whoever reads it, and
what becomes of it is pinned, so its sums are the same whoever computes them. The checkpoint only moves forward.

How far each group of a divided import is. One item a group; it only moves forward.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt
from postroom.ledger.collection import iterate_items
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables
from postroom.recipients_file.layout import Layout

_TRIES = 10


@dataclass(frozen=True, slots=True)
class Division:
    """How an import is divided among many (parallel.py)."""

    ranges: int
    """Parts of the upload."""
    groups: int
    """Parts of the batches."""
    ranges_key: str
    """The object that lists the ranges, as JSON."""
    groups_key: str
    """The object that lists the groups."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, and how."""

    version: str
    """Of the upload's object."""
    layout: Layout
    rows: int
    batches: int
    chunk: int
    """Rows a chunk at most: frozen too, so that a newer program goes on where an older one stopped."""
    chunk_bytes: int = sys.maxsize
    """Bytes of values that end a chunk before that; a plan from before there was a limit has none."""
    division: Division | None = None
    """None: one process does it all."""


@dataclass(frozen=True, slots=True)
class ImportTotals:
    """What became of the rows so far."""

    rows: int = 0
    invalid: int = 0
    duplicate: int = 0
    suppressed: int = 0

    @property
    def accepted(self) -> int:
        """Rows that are messages."""
        return self.rows - self.invalid - self.duplicate - self.suppressed

    def __add__(self, other: ImportTotals) -> ImportTotals:
        return ImportTotals(
            self.rows + other.rows,
            self.invalid + other.invalid,
            self.duplicate + other.duplicate,
            self.suppressed + other.suppressed,
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An import under way: `sums.rows` of `plan.rows` are done."""

    plan: Plan
    chunks: int = 0
    """Chunks that are done."""
    sums: ImportTotals = ImportTotals()


class Checkpoints:
    """Where imports keep their place. `load` is also how their progress is shown."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def load(self, ref: CampaignRef) -> Checkpoint | None:
        """How far the import is; None before its plan is made and after it ended."""
        item = self._tables.get(_key(ref))
        return None if item is None else _checkpoint(item)

    def begin(self, ref: CampaignRef, plan: Plan) -> Checkpoint:
        """Freeze the plan; the one that was frozen before, where there is one."""
        try:
            self._tables.write([Put(_key(ref), _data(Checkpoint(plan)), Expect.ABSENT)])
        except Conflict:
            frozen = self.load(ref)
            if frozen is None:
                raise
            return frozen
        return Checkpoint(plan)

    def save(self, ref: CampaignRef, checkpoint: Checkpoint) -> bool:
        """The chunk is done, and all before it. False: the import has ended meanwhile, at another's hands."""
        for _ in range(_TRIES):
            item = self._tables.get(_key(ref))
            if item is None:
                return False
            if _checkpoint(item).chunks >= checkpoint.chunks:
                return True
            try:
                self._tables.write([Put(_key(ref), _data(checkpoint), item.version)])
            except Conflict:  # another wrote the same chunk's or a later one's: look again
                continue
            return True
        raise Conflict(f"the import of campaign {ref.campaign} is at work in several places; try again")

    def forget(self, ref: CampaignRef) -> None:
        """The import has ended."""
        self._tables.write([Delete(_key(ref))])


def _key(ref: CampaignRef) -> ItemKey:
    return ItemKey(f"{ref.tenant}#imports", ref.campaign)


def _data(checkpoint: Checkpoint) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(checkpoint)
    return data


def _checkpoint(item: Item) -> Checkpoint:
    try:
        return msgspec.convert(item.data, Checkpoint)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the progress of importing campaign {item.key.sort} cannot be read: {error}") from error


_EXPIRES_MS: Final = 30 * 86_400_000


"""A mark that somebody late leaves behind is gone by itself; no import takes that long."""


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """One group's."""

    chunks: int = 0
    """Chunks that are stored, and their part of the report."""
    ranges: int = 0
    """Ranges whose rows are in them: the next chunk begins with this one's."""
    sums: ImportTotals = field(default_factory=ImportTotals)
    counted: bool = False
    """Its batches were counted after the last chunk: nothing is left to do."""


class GroupCheckpoints:
    """Where groups keep their place."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def load(self, ref: CampaignRef, group: int) -> GroupProgress:
        """How far it is; at the beginning where nothing was saved."""
        item = self._tables.get(_group_key(ref, group))
        return GroupProgress() if item is None else _group_progress(item)

    def save(self, ref: CampaignRef, group: int, mark: GroupProgress) -> None:
        """It is this far, unless it is further."""
        expires = Instant(self._clock.now() + _EXPIRES_MS)
        for _ in range(_TRIES):
            item = self._tables.get(_group_key(ref, group))
            if item is not None and _order(_group_progress(item)) >= _order(mark):
                return
            try:
                expect = Expect.ABSENT if item is None else item.version
                self._tables.write([Put(_group_key(ref, group), _group_data(mark), expect, expires)])
            except Conflict:  # another is at work on the same group: look again
                continue
            return
        raise Conflict(f"the import of campaign {ref.campaign} is at work in several places; try again")

    def all(self, ref: CampaignRef) -> list[GroupProgress]:
        """Of every group that was begun."""
        return [_group_progress(item) for item in self._items(ref)]

    def forget(self, ref: CampaignRef) -> None:
        """The import has ended."""
        doomed = [Delete(item.key) for item in self._items(ref)]
        for first in range(0, len(doomed), MAX_WRITES):
            self._tables.write(doomed[first : first + MAX_WRITES])

    def _items(self, ref: CampaignRef) -> list[Item]:
        return list(iterate_items(self._tables, _partition(ref)))


def _order(mark: GroupProgress) -> tuple[int, bool]:
    return mark.chunks, mark.counted


def _partition(ref: CampaignRef) -> str:
    return f"{ref.tenant}#imports#{ref.campaign}"


def _group_key(ref: CampaignRef, group: int) -> ItemKey:
    return ItemKey(_partition(ref), f"{group:06}")


def _group_data(mark: GroupProgress) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(mark)
    return data


def _group_progress(item: Item) -> GroupProgress:
    try:
        return msgspec.convert(item.data, GroupProgress)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the progress of group {item.key.sort} of {item.key.partition} cannot be read: {error}") from error
