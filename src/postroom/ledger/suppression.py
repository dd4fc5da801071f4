"""The suppression list: addresses that a tenant must not send to, by the same key as their messages.

    {tenant}#suppression / key                  entries for all mail
    {tenant}#suppression#topics / key/topic     entries for one topic: the recipient gets all mail but what is sent under it

The first reason stays, except that an unsubscribe or a complaint replaces a bounce or a manual entry: clearing out old bounces
must never bring back someone who asked to be left alone. An entry with an end (after repeated soft bounces) is replaced by a
lasting one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.ledger.collection import ListPage, iterate_items, write_retrying
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables, Write

_PAGE = 100
_IN_TOPICS = "topics:"
"""The start of a cursor once the entries for all mail are listed."""
_LIST = "the suppression list"


class SuppressionReason(StrEnum):
    """Why an address is suppressed."""

    MANUAL = "manual"
    """A user of the tenant added it."""
    BOUNCE = "bounce"
    """The address bounced hard, or soft too often."""
    COMPLAINT = "complaint"
    """The recipient reported a message as spam."""
    UNSUBSCRIBE = "unsubscribe"
    """The recipient unsubscribed."""


RECIPIENT_REASONS = frozenset({SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE})
"""Reasons given by the recipient."""


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """An entry of the suppression list."""

    key: Key
    address: str
    """Empty if it is not known: the recipient unsubscribed by a link (which carries no address) and the message is gone, or was
    erased. The entry holds all the same."""
    reason: SuppressionReason
    added_at: Instant
    note: str = ""
    """A user's text, or the server's reply."""
    topic: str | None = None
    """None: all mail."""
    expires_at: Instant | None = None
    """When the entry expires; None: never."""
    source: str = ""
    """The message and event that caused it, as `suppression_source` writes it; empty: a user added it."""


def suppression_source(message: str, event: Event) -> str:
    """The `source` of an entry: the message's id, a slash, the event's id."""
    return f"{message}/{event.id}"


class SuppressionList:
    """The suppression lists of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def suppressed(self, tenant: str, keys: Sequence[Key], *, topic: str | None = None) -> set[Key]:
        """Which of `keys` (any number) are suppressed for all mail, or for `topic`."""
        asked = [(key, topic) for key in keys]
        return {key for (key, _), refused in zip(asked, self.refused(tenant, asked), strict=True) if refused}

    def refused(self, tenant: str, asked: Sequence[tuple[Key, str | None]]) -> list[bool]:
        """As `suppressed`, for any number of recipients, each with its own topic."""
        everything = self._tables.existing(_partition(tenant), [key.hex() for key, _ in asked])
        names = [None if topic is None else _topic_sort(key, topic) for key, topic in asked]
        with_topic = [name for name in names if name is not None]
        some = self._tables.existing(_topics(tenant), with_topic) if with_topic else set()
        return [key.hex() in everything or name in some for (key, _), name in zip(asked, names, strict=True)]

    def get(self, tenant: str, key: Key, *, topic: str | None = None) -> SuppressionEntry | None:
        """The entry for all mail, or for `topic`; or None."""
        item = self._tables.get(_place(tenant, key, topic))
        return None if item is None else _entry(item)

    def entries_for(self, tenant: str, key: Key) -> list[SuppressionEntry]:
        """All entries of a recipient, the one for all mail first."""
        return [_entry(item) for item in self._items(tenant, key)]

    def add(
        self,
        tenant: str,
        key: Key,
        *,
        address: str,
        reason: SuppressionReason,
        note: str = "",
        topic: str | None = None,
        source: str = "",
    ) -> bool:
        """Add one entry; whether the list changed. Safe to repeat."""
        return self.add_all(tenant, [SuppressionEntry(key, address, reason, self._clock.now(), note, topic, source=source)]) == 1

    def explain(
        self, tenant: str, key: Key, *, wanted: Callable[[SuppressionEntry], bool], address: str, note: str, source: str
    ) -> None:
        """Complete entries that were added without address and source, as by an unsubscribe link: those of the recipient for
        which `wanted` returns True. Safe to repeat."""
        told = {"address": address, "note": note, "source": source}
        for item in self._items(tenant, key):
            entry = _entry(item)
            if not entry.address and not entry.source and wanted(entry):
                with suppress(Conflict):  # taken back or erased at the same time
                    self._tables.write([Put(item.key, {**item.data, **told}, item.version, item.expires_at)])

    def add_all(self, tenant: str, entries: Sequence[SuppressionEntry]) -> int:
        """Add any number of entries; how many changed the list. Atomic per hundred: after a crash some are added, and repeating
        completes it."""
        chosen: dict[tuple[Key, str | None], SuppressionEntry] = {}
        for entry in entries:
            known = chosen.get((entry.key, entry.topic))
            if known is None or _outranks(entry, known):
                chosen[entry.key, entry.topic] = entry
        unique = list(chosen.values())
        return sum(self._add_chunk(tenant, unique[at : at + MAX_WRITES]) for at in range(0, len(unique), MAX_WRITES))

    def remove(self, tenant: str, key: Key, *, topic: str | None = None) -> bool:
        """Remove a recipient's entries, of all topics too, or only the entry of `topic`; whether there was one. After a crash
        entries of topics may be left: repeat."""
        items = list(self._items(tenant, key)) if topic is None else [self._tables.get(_place(tenant, key, topic))]
        places = [item.key for item in items if item is not None]
        for at in range(0, len(places), MAX_WRITES):
            self._tables.write([Delete(place) for place in places[at : at + MAX_WRITES]])
        return bool(places)

    def take_back(self, tenant: str, key: Key, *, topic: str | None = None) -> bool:
        """Undo an unsubscribe, of all mail or of `topic`: an entry that it replaced (such as a bounce) is restored. False if
        there is none."""
        place = _place(tenant, key, topic)

        def plan() -> tuple[list[Write], bool]:
            item = self._tables.get(place)
            if item is None or item.data["reason"] != SuppressionReason.UNSUBSCRIBE:
                return [], False
            before = item.data.get("before")
            return [Delete(place, item.version) if before is None else Put(place, before, item.version)], True

        return write_retrying(self._tables, plan, _LIST)

    def forget_address(self, tenant: str, key: Key) -> bool:
        """Erase address and note from a recipient's entries; the entries stay. Whether there is any. Safe to repeat."""
        found = False
        for item in self._items(tenant, key):
            found = self._forget_address(item.key) or found
        return found

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[SuppressionEntry]:
        """The tenant's entries by key, entries of topics last. `limit`: 1 to 1,000."""
        entries: list[SuppressionEntry] = []
        if cursor is None or not cursor.startswith(_IN_TOPICS):
            page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit)
            entries = [_entry(item) for item in page.items]
            if page.cursor is not None or len(entries) == limit:
                return ListPage(entries, page.cursor or _IN_TOPICS)
            cursor = _IN_TOPICS
        after = cursor.removeprefix(_IN_TOPICS) or None
        page = self._tables.query(_topics(tenant), cursor=after, limit=limit - len(entries))
        entries += [_entry(item) for item in page.items]
        return ListPage(entries, None if page.cursor is None else _IN_TOPICS + page.cursor)

    def _items(self, tenant: str, key: Key) -> Iterator[Item]:
        item = self._tables.get(_place(tenant, key, None))
        if item is not None:
            yield item
        yield from iterate_items(self._tables, _topics(tenant), prefix=_topic_sort(key, ""), at_once=_PAGE)

    def _forget_address(self, place: ItemKey) -> bool:
        def plan() -> tuple[list[Write], bool]:
            item = self._tables.get(place)
            if item is None:
                return [], False
            forgotten = {**item.data, "address": "", "note": ""}
            if "before" in forgotten:
                forgotten["before"] = {**forgotten["before"], "address": "", "note": ""}
            return [Put(place, forgotten, item.version, item.expires_at)], True

        return write_retrying(self._tables, plan, _LIST)

    def _add_chunk(self, tenant: str, entries: Sequence[SuppressionEntry]) -> int:
        def plan() -> tuple[list[Put], int]:
            known = self._tables.get_many([_place(tenant, entry.key, entry.topic) for entry in entries])
            puts = [put for entry in entries if (put := _put(tenant, entry, known)) is not None]
            return puts, len(puts)

        return write_retrying(self._tables, plan, _LIST)


def _outranks(later: SuppressionEntry, earlier: SuppressionEntry) -> bool:
    """Recipients' own reasons before others; otherwise the entry that lasts longer."""
    if (later.reason in RECIPIENT_REASONS) != (earlier.reason in RECIPIENT_REASONS):
        return later.reason in RECIPIENT_REASONS
    return earlier.expires_at is not None and (later.expires_at is None or later.expires_at > earlier.expires_at)


def _put(tenant: str, entry: SuppressionEntry, known: dict[ItemKey, Item]) -> Put | None:
    key = _place(tenant, entry.key, entry.topic)
    item = known.get(key)
    if item is None:
        return Put(key, _data(entry), Expect.ABSENT, entry.expires_at)
    if not _outranks(entry, _entry(item)):
        return None
    lasting = entry.reason in RECIPIENT_REASONS and item.expires_at is None  # kept for `take_back`
    return Put(key, _data(entry) | ({"before": item.data} if lasting else {}), item.version, entry.expires_at)


def _data(entry: SuppressionEntry) -> dict[str, Any]:
    data = {"address": entry.address, "reason": entry.reason.value, "at": entry.added_at, "note": entry.note}
    return data | ({"source": entry.source} if entry.source else {})


def _partition(tenant: str) -> str:
    return f"{tenant}#suppression"


def _topics(tenant: str) -> str:
    return f"{tenant}#suppression#topics"


def _place(tenant: str, key: Key, topic: str | None) -> ItemKey:
    return ItemKey(_partition(tenant), key.hex()) if topic is None else ItemKey(_topics(tenant), _topic_sort(key, topic))


def _topic_sort(key: Key, topic: str) -> str:
    return f"{key.hex()}/{topic}"


def _entry(item: Item) -> SuppressionEntry:
    data = item.data
    name, slash, topic = item.key.sort.partition("/")
    return SuppressionEntry(
        Key(bytes.fromhex(name)),
        data["address"],
        SuppressionReason(data["reason"]),
        Instant(data["at"]),
        data["note"],
        topic if slash else None,
        item.expires_at,
        data.get("source", ""),
    )
