"""Who must not be written to: one record a person and tenant, found by the same key as their messages.

The first reason stays, unless a later one is a person's own will: an unsubscribe or a complaint replaces a bounce or a
manual entry, so that clearing out old bounces never brings back somebody who asked to be left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.model.shard import Key
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables

_TRIES = 10


class Reason(StrEnum):
    """Why."""

    MANUAL = "manual"
    """Somebody of the tenant entered it."""
    BOUNCE = "bounce"
    """The receiving side refused the address for good."""
    COMPLAINT = "complaint"
    """The person reported a mail as spam."""
    UNSUBSCRIBE = "unsubscribe"
    """The person asked for no more."""


WILL = frozenset({Reason.COMPLAINT, Reason.UNSUBSCRIBE})
"""Reasons that are the person's own."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """One entry."""

    key: Key
    address: str
    """Empty: the person was erased, and is still not to be written to."""
    reason: Reason
    added_at: Instant
    note: str = ""
    """Free text, or the server's reply."""


class SuppressionPage(NamedTuple):
    """Part of a list, in the order of keys: no order people know. `cursor` asks for the next part."""

    entries: list[Suppressed]
    cursor: str | None


class Suppression:
    """The lists of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def suppressed(self, tenant: str, keys: Sequence[Key]) -> set[Key]:
        """Which of `keys` (any number) are on the tenant's list."""
        return {Key(bytes.fromhex(sort)) for sort in self._tables.existing(_partition(tenant), [key.hex() for key in keys])}

    def get(self, tenant: str, key: Key) -> Suppressed | None:
        """The entry, or None."""
        item = self._tables.get(ItemKey(_partition(tenant), key.hex()))
        return None if item is None else _entry(item)

    def add(self, tenant: str, key: Key, *, address: str, reason: Reason, note: str = "") -> bool:
        """Enter one person; whether that changed anything. Again: harmless."""
        return self.add_all(tenant, [Suppressed(key, address, reason, self._clock.now(), note)]) == 1

    def add_all(self, tenant: str, entries: Sequence[Suppressed]) -> int:
        """Enter any number; how many changed something. Each hundred stands alone: after a crash some are entered, and
        entering all again completes it."""
        chosen: dict[Key, Suppressed] = {}
        for entry in entries:
            if entry.key not in chosen or _outranks(entry.reason, chosen[entry.key].reason):
                chosen[entry.key] = entry
        unique = list(chosen.values())
        return sum(self._add_chunk(tenant, unique[at : at + MAX_WRITES]) for at in range(0, len(unique), MAX_WRITES))

    def remove(self, tenant: str, key: Key) -> bool:
        """Take one person off the list; whether they were on it."""
        item = ItemKey(_partition(tenant), key.hex())
        was = self._tables.get(item) is not None
        self._tables.write([Delete(item)])
        return was

    def forget_address(self, tenant: str, key: Key) -> bool:
        """Keep of an entry only that the person must not be written to, and why; whether there is one. Again: harmless."""
        place = ItemKey(_partition(tenant), key.hex())
        for _ in range(_TRIES):
            item = self._tables.get(place)
            if item is None:
                return False
            try:
                self._tables.write([Put(place, {**item.data, "address": "", "note": ""}, item.version)])
            except Conflict:  # somebody changed it since: look again
                continue
            return True
        raise Conflict("the suppression list is being changed by others all the time; try again")

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> SuppressionPage:
        """The tenant's list; `limit` 1 to 1,000."""
        page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit)
        return SuppressionPage([_entry(item) for item in page.items], page.cursor)

    def _add_chunk(self, tenant: str, entries: Sequence[Suppressed]) -> int:
        for _ in range(_TRIES):
            known = self._tables.get_many([ItemKey(_partition(tenant), entry.key.hex()) for entry in entries])
            puts = [put for entry in entries if (put := _put(tenant, entry, known)) is not None]
            try:
                if puts:
                    self._tables.write(puts)
            except Conflict:  # somebody entered one of them since: look again
                continue
            return len(puts)
        raise Conflict("the suppression list is being changed by others all the time; try again")


def _outranks(later: Reason, earlier: Reason) -> bool:
    return later in WILL and earlier not in WILL


def _put(tenant: str, entry: Suppressed, known: dict[ItemKey, Item]) -> Put | None:
    key = ItemKey(_partition(tenant), entry.key.hex())
    data = {"address": entry.address, "reason": entry.reason.value, "at": entry.added_at, "note": entry.note}
    item = known.get(key)
    if item is None:
        return Put(key, data, Expect.ABSENT)
    if _outranks(entry.reason, Reason(item.data["reason"])):
        return Put(key, data, item.version)
    return None


def _partition(tenant: str) -> str:
    return f"{tenant}#suppression"


def _entry(item: Item) -> Suppressed:
    data = item.data
    return Suppressed(
        Key(bytes.fromhex(item.key.sort)), data["address"], Reason(data["reason"]), Instant(data["at"]), data["note"]
    )
