"""How far an import is: its plan, frozen before the first row is stored, and the totals of the chunks that are done.

One item per campaign (`Checkpoints`), and one per group of batches of a parallel import (`GroupCheckpoints`). Both only move
forward. The plan is written once, if absent; every later worker follows it. A chunk begins where the one before ended and ends
where the plan and the rows say, so it is the same range of rows whichever worker reads it. What becomes of its rows is pinned, so
its totals are the same whichever worker computes them.
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
_EXPIRES_MS: Final = 30 * 86_400_000
"""Progress that a late worker leaves behind expires; no import takes that long."""


@dataclass(frozen=True, slots=True)
class Division:
    """How an import is divided among many functions (parallel.py)."""

    ranges: int
    """Parts of the upload."""
    groups: int
    """Parts of the batches."""
    ranges_key: str
    """Key of the object that lists the ranges, as JSON."""
    groups_key: str
    """Key of the object that lists the groups."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is imported, and how it is read."""

    version: str
    """Version of the upload's object."""
    layout: Layout
    rows: int
    batches: int
    chunk: int
    """Rows in a chunk, at most. Frozen too, so that a newer release continues where an older one stopped."""
    chunk_bytes: int = sys.maxsize
    """Bytes of values that end a chunk early. Plans of releases before this limit have none."""
    division: Division | None = None
    """None: one process does the whole import."""


@dataclass(frozen=True, slots=True)
class ImportTotals:
    """Rows so far, and how many of them were rejected, by reason."""

    rows: int = 0
    invalid: int = 0
    duplicate: int = 0
    suppressed: int = 0

    @property
    def accepted(self) -> int:
        """Rows that became messages."""
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
    """An import in progress: `sums.rows` of `plan.rows` rows are done."""

    plan: Plan
    chunks: int = 0
    """Chunks that are done."""
    sums: ImportTotals = ImportTotals()


class Checkpoints:
    """The checkpoints of all imports. Their progress is shown from here too."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def load(self, ref: CampaignRef) -> Checkpoint | None:
        """Returns None before the plan is made and after the import has ended."""
        item = self._tables.get(_key(ref))
        return None if item is None else _checkpoint(item)

    def begin(self, ref: CampaignRef, plan: Plan) -> Checkpoint:
        """Freeze the plan. If one was frozen before, that one is returned."""
        try:
            self._tables.write([Put(_key(ref), _data(Checkpoint(plan)), Expect.ABSENT)])
        except Conflict:
            frozen = self.load(ref)
            if frozen is None:
                raise
            return frozen
        return Checkpoint(plan)

    def save(self, ref: CampaignRef, checkpoint: Checkpoint) -> bool:
        """Record that the chunk and all before it are done. Returns False if another worker has ended the import meanwhile."""
        for _ in range(_TRIES):
            item = self._tables.get(_key(ref))
            if item is None:
                return False
            if _checkpoint(item).chunks >= checkpoint.chunks:
                return True
            try:
                self._tables.write([Put(_key(ref), _data(checkpoint), item.version)])
            except Conflict:  # another worker saved this chunk or a later one: look again
                continue
            return True
        raise Conflict(f"the import of campaign {ref.campaign} is running in several places; try again")

    def forget(self, ref: CampaignRef) -> None:
        """Delete: the import has ended."""
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


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """How far one group is."""

    chunks: int = 0
    """Chunks whose rows and part of the report are stored."""
    ranges: int = 0
    """Ranges whose rows are in those chunks: the number of the range the next chunk begins with."""
    sums: ImportTotals = field(default_factory=ImportTotals)
    counted: bool = False
    """The batches were counted after the last chunk: nothing is left to do."""


class GroupCheckpoints:
    """The progress of all groups of parallel imports."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def load(self, ref: CampaignRef, group: int) -> GroupProgress:
        """The group's progress; an empty one if nothing was saved."""
        item = self._tables.get(_group_key(ref, group))
        return GroupProgress() if item is None else _group_progress(item)

    def save(self, ref: CampaignRef, group: int, progress: GroupProgress) -> None:
        """Save the progress, unless what is saved is further."""
        expires = Instant(self._clock.now() + _EXPIRES_MS)
        for _ in range(_TRIES):
            item = self._tables.get(_group_key(ref, group))
            if item is not None and _order(_group_progress(item)) >= _order(progress):
                return
            try:
                expect = Expect.ABSENT if item is None else item.version
                self._tables.write([Put(_group_key(ref, group), _group_data(progress), expect, expires)])
            except Conflict:  # another worker stores the same group: look again
                continue
            return
        raise Conflict(f"the import of campaign {ref.campaign} is running in several places; try again")

    def all(self, ref: CampaignRef) -> list[GroupProgress]:
        """The progress of every group that was begun, in order."""
        return [_group_progress(item) for item in self._items(ref)]

    def forget(self, ref: CampaignRef) -> None:
        """Delete: the import has ended."""
        doomed = [Delete(item.key) for item in self._items(ref)]
        for first in range(0, len(doomed), MAX_WRITES):
            self._tables.write(doomed[first : first + MAX_WRITES])

    def _items(self, ref: CampaignRef) -> list[Item]:
        return list(iterate_items(self._tables, _partition(ref)))


def _order(progress: GroupProgress) -> tuple[int, bool]:
    return progress.chunks, progress.counted


def _partition(ref: CampaignRef) -> str:
    return f"{ref.tenant}#imports#{ref.campaign}"


def _group_key(ref: CampaignRef, group: int) -> ItemKey:
    return ItemKey(_partition(ref), f"{group:06}")


def _group_data(progress: GroupProgress) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(progress)
    return data


def _group_progress(item: Item) -> GroupProgress:
    try:
        return msgspec.convert(item.data, GroupProgress)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the progress of group {item.key.sort} of {item.key.partition} cannot be read: {error}") from error
