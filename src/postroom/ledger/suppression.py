"""Who must not be written to: one record a person and tenant, found by the same key as their messages.

The first reason stays, unless a later one is a person's own will: an unsubscribe or a complaint replaces a bounce or a
manual entry, so that clearing out old bounces never brings back somebody who asked to be left alone.

An entry is for all mail, or for one topic: then the person gets everything but what is sent under that topic. Entries of topics
stand in a partition of their own, under the person's key and the topic, so that a look-up reads one item, and whoever
takes a person off the list, or forgets them, finds all of them.

An entry may end by itself: somebody whose mailbox was full too often is written to again after a while. A lasting reason
replaces one that would have ended.
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
"""What a cursor begins with once the entries of all mail have been listed."""
_LIST = "the suppression list"


class SuppressionReason(StrEnum):
    """Why."""

    MANUAL = "manual"
    """Somebody of the tenant entered it."""
    BOUNCE = "bounce"
    """The receiving side refused the address for good."""
    COMPLAINT = "complaint"
    """The person reported a mail as spam."""
    UNSUBSCRIBE = "unsubscribe"
    """The person asked for no more."""


RECIPIENT_REASONS = frozenset({SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE})
"""Reasons that are the person's own."""


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """One entry."""

    key: Key
    address: str
    """Empty: nobody knows it, as they unsubscribed by a link that names no address and whose message nobody has (any more), or
    were erased; they are still not to be written to."""
    reason: SuppressionReason
    added_at: Instant
    note: str = ""
    """Free text, or the server's reply."""
    topic: str | None = None
    """None: of all mail."""
    expires_at: Instant | None = None
    """When it ends by itself; None: never."""
    source: str = ""
    """The message and the event that it came from, as `source` writes it; empty: somebody entered it."""


def suppression_source(message: str, event: Event) -> str:
    """What an entry's `source` says: the message's id, a slash, the event's."""
    return f"{message}/{event.id}"


class SuppressionList:
    """The lists of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def suppressed(self, tenant: str, keys: Sequence[Key], *, topic: str | None = None) -> set[Key]:
        """Who of `keys` (any number) gets no mail of that topic, or no mail at all."""
        asked = [(key, topic) for key in keys]
        return {key for (key, _), refused in zip(asked, self.refused(tenant, asked), strict=True) if refused}

    def refused(self, tenant: str, asked: Sequence[tuple[Key, str | None]]) -> list[bool]:
        """The same of any number of people, each with a topic of their own."""
        everything = self._tables.existing(_partition(tenant), [key.hex() for key, _ in asked])
        names = [None if topic is None else _topic_sort(key, topic) for key, topic in asked]
        with_topic = [name for name in names if name is not None]
        some = self._tables.existing(_topics(tenant), with_topic) if with_topic else set()
        return [key.hex() in everything or name in some for (key, _), name in zip(asked, names, strict=True)]

    def get(self, tenant: str, key: Key, *, topic: str | None = None) -> SuppressionEntry | None:
        """The entry of all mail, or of that topic; or None."""
        item = self._tables.get(_place(tenant, key, topic))
        return None if item is None else _entry(item)

    def of(self, tenant: str, key: Key) -> list[SuppressionEntry]:
        """Every entry of one person: of all mail first."""
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
        """Enter one person; whether that changed anything. Again: harmless."""
        return self.add_all(tenant, [SuppressionEntry(key, address, reason, self._clock.now(), note, topic, source=source)]) == 1

    def explain(
        self, tenant: str, key: Key, *, wanted: Callable[[SuppressionEntry], bool], address: str, note: str, source: str
    ) -> None:
        """Say whose an entry is that was made by somebody who did not know, and where it comes from: of those of the person that
        are `wanted`, if they still stand and say neither. Again: harmless."""
        told = {"address": address, "note": note, "source": source}
        for item in self._items(tenant, key):
            entry = _entry(item)
            if not entry.address and not entry.source and wanted(entry):
                with suppress(Conflict):  # changed in this moment: by the person, who took it back, or by an erasure
                    self._tables.write([Put(item.key, {**item.data, **told}, item.version, item.expires_at)])

    def add_all(self, tenant: str, entries: Sequence[SuppressionEntry]) -> int:
        """Enter any number; how many changed something. Each hundred stands alone: after a crash some are entered, and
        entering all again completes it."""
        chosen: dict[tuple[Key, str | None], SuppressionEntry] = {}
        for entry in entries:
            known = chosen.get((entry.key, entry.topic))
            if known is None or _outranks(entry, known):
                chosen[entry.key, entry.topic] = entry
        unique = list(chosen.values())
        return sum(self._add_chunk(tenant, unique[at : at + MAX_WRITES]) for at in range(0, len(unique), MAX_WRITES))

    def remove(self, tenant: str, key: Key, *, topic: str | None = None) -> bool:
        """Take one person off the list, of every topic too, or (`topic`) of that one alone; whether they were on it. A kill on
        the way leaves entries of topics: taking them off again goes on."""
        items = list(self._items(tenant, key)) if topic is None else [self._tables.get(_place(tenant, key, topic))]
        places = [item.key for item in items if item is not None]
        for at in range(0, len(places), MAX_WRITES):
            self._tables.write([Delete(place) for place in places[at : at + MAX_WRITES]])
        return bool(places)

    def take_back(self, tenant: str, key: Key, *, topic: str | None = None) -> bool:
        """The person takes their unsubscribing back, of all mail or of that topic: what had been there before stands again, a
        bounce say. Whether there was anything to take back."""
        place = _place(tenant, key, topic)

        def plan() -> tuple[list[Write], bool]:
            item = self._tables.get(place)
            if item is None or item.data["reason"] != SuppressionReason.UNSUBSCRIBE:
                return [], False
            before = item.data.get("before")
            return [Delete(place, item.version) if before is None else Put(place, before, item.version)], True

        return write_retrying(self._tables, plan, _LIST)

    def forget_address(self, tenant: str, key: Key) -> bool:
        """Keep of a person's entries only that they must not be written to, and why; whether there is any. Again: harmless."""
        found = False
        for item in self._items(tenant, key):
            found = self._forget_address(item.key) or found
        return found

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[SuppressionEntry]:
        """The tenant's list, entries of topics last; `limit` 1 to 1,000."""
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
    """A person's own will before other reasons; among others what lasts before what ends, and what ends later."""
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
    lasting = entry.reason in RECIPIENT_REASONS and item.expires_at is None  # what was there before is kept for `take_back`
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
