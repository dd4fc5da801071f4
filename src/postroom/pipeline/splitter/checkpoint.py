"""How far an import is: the plan, frozen before the first row is stored, and the sums of the chunks that are done.

One item a campaign. The plan is written once, if absent; whoever finds it follows it. A chunk begins where the one before
ended, and ends where the plan and the rows themselves say: so it is the same range of rows whoever reads it, and
what becomes of it is pinned, so its sums are the same whoever computes them. The checkpoint only moves forward.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from postroom.errors import Conflict, Corrupt
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables
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
class Sums:
    """What became of the rows so far."""

    rows: int = 0
    invalid: int = 0
    duplicate: int = 0
    suppressed: int = 0

    @property
    def accepted(self) -> int:
        """Rows that are messages."""
        return self.rows - self.invalid - self.duplicate - self.suppressed

    def __add__(self, other: Sums) -> Sums:
        return Sums(
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
    sums: Sums = Sums()


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
