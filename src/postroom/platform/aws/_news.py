"""What comes back, in the table: events of messages, and the reported half of their records (model.news).

An event is one conditional write of its message's item, which holds the events as well: one write unit. It demands the version
that the message was read with, so what two reporters tell at the same time is told one after the other, and an event that is
there was heard. Where the item would grow past its limit, the event gets an item of its own, in one transaction with what it
makes of the message: a kill leaves both or neither, and nothing is ever heard twice, not even after the message was tried again.

A call that botocore repeats because its answer was lost finds its own events there: they are new all the same. Should somebody
else have told the same in that moment, it is new to both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from postroom.errors import Unavailable
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.event_text import event_text, parse_event
from postroom.model.message import ERASED, MessageStatus, Settlement
from postroom.model.news import OURS, News, event_of, in_order, nameless
from postroom.model.shard import Key
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Record, Table, Terms, Value, billed, encode_item

_TRIES = 8
_AT_ONCE = 50  # events of one message in a write: a transaction takes 100


class _Hearing(NamedTuple):
    """What some reports make of a message."""

    news: News
    fresh: Sequence[Event]
    """The events to be kept."""
    stands: Sequence[str]
    """Of each of those, where it puts the message: for the stream."""
    new: Sequence[bool]
    """Which of all that were reported are fresh."""


class NewsItems:
    """The timelines of every campaign in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, ref: CampaignRef, places: Iterable[tuple[int, Key]]) -> dict[tuple[int, Key], Record]:
        """The messages that are reported of, those that there are."""
        at = {place: _ledger.message_at(ref, *place) for place in places}
        found = self._table.get_many(at.values())
        return {place: found[address] for place, address in at.items() if address in found}

    def hear(self, ref: CampaignRef, number: int, seen: Record | None, events: Sequence[Event]) -> list[bool]:
        """Note what came back of one message, as it was `seen`; which of it was new."""
        new: list[bool] = []
        for first in range(0, len(events), _AT_ONCE):
            part = events[first : first + _AT_ONCE]
            seen, each = (None, [False] * len(part)) if seen is None else self._hear(ref, number, seen, part)
            new += each
        return new

    def _hear(self, ref: CampaignRef, number: int, seen: Record, events: Sequence[Event]) -> tuple[Record | None, Sequence[bool]]:
        """The message then, and which of these were new."""
        key = _ledger.key_of(seen)
        for attempt in range(_TRIES):
            hearing = _heard(seen, events, self._known(ref, number, seen, events))
            if not hearing.fresh:
                return seen, hearing.new
            after = _after(seen, hearing)
            if after is None:
                done, found = not self._spill(ref, number, seen, hearing), self._table.get(_ledger.message_at(ref, number, key))
            else:
                done, found = self._add(ref, number, seen, after, hearing)
            if done or found is None:
                return found, hearing.new if done else [False] * len(events)
            seen = found
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {key.hex()} of batch {number}")

    def _known(self, ref: CampaignRef, number: int, seen: Record, events: Sequence[Event]) -> set[str]:
        """Ids of events that the message has. Beside it stand only what its item had no room for, and our worker's own."""
        known = {event.id for event in _ledger.heard(seen)}
        unsure = [event.id for event in events if event.id not in known and ("told" in seen or event.id.startswith(OURS))]
        at = {_ledger.event_at(ref, number, _ledger.key_of(seen), id): id for id in unsure}  # noqa: A001 - the event's
        return known | {at[place] for place in self._table.get_many(at, ("sk",))}

    def _add(
        self, ref: CampaignRef, number: int, seen: Record, after: dict[str, Value], hearing: _Hearing
    ) -> tuple[bool, Record | None]:
        """Into the item itself; whether that is done, and the item now."""
        terms = Terms()
        change, condition = terms.assign(after), terms.equals("version", seen["version"])
        written = self._table.update(_ledger.message_at(ref, number, _ledger.key_of(seen)), change, condition, terms)
        if written.applied or written.item is None or not written.repeated:
            return written.applied, written.item
        there = {event.id for event in _ledger.heard(written.item)}
        return all(event.id in there for event in hearing.fresh), written.item

    def _spill(self, ref: CampaignRef, number: int, seen: Record, hearing: _Hearing) -> list[str]:
        """Each event into an item of its own. Empty: done. Else why not."""
        key, terms = _ledger.key_of(seen), Terms()
        at = _ledger.message_at(ref, number, key)
        values: dict[str, Value | None] = {"told": _ledger.told(hearing.news), "version": int(seen["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=encode_item({"pk": at.pk, "sk": at.sk}),
            UpdateExpression=terms.assign(values),
            ConditionExpression=terms.equals("version", seen["version"]),
        )
        puts = []
        for event, stands in zip(hearing.fresh, hearing.stands, strict=True):
            absent = Terms()
            condition = absent.equals("pk", None)
            item = encode_item(_ledger.event_item(ref, number, key, event, stands))
            puts.append({"Put": absent.request(TableName=self._table.name, Item=item, ConditionExpression=condition)})
        return self._table.transact([{"Update": change}, *puts])

    def add_own(self, ref: CampaignRef, number: int, settlement: Settlement) -> None:
        """What our worker tells of an attempt that was no success, once. A success is told by the record itself."""
        event = None if settlement.status is MessageStatus.SENT else event_of(settlement)
        if event is not None:
            terms = Terms()
            self._table.put(_ledger.event_item(ref, number, settlement.key, event), terms.equals("pk", None), terms)

    def timeline(self, ref: CampaignRef, number: int, key: Key) -> list[Event]:
        """In order of time."""
        events = [parse_event(str(item["event"])) for item in self._items(ref, number, key)]
        record = self._table.get(_ledger.message_at(ref, number, key))
        events += _ledger.heard(record) if record is not None else []
        if record is not None and int(record["state"]) == MessageStatus.SENT:
            at = _ledger.instant(record, "at")
            code, reply = int(record.get("code", 0)), str(record.get("reply", ""))
            sent = at is not None and event_of(Settlement(key, MessageStatus.SENT, int(record["attempt"]), at, None, code, reply))
            events += [sent] if sent else []
        return in_order(events)

    def forget(self, ref: CampaignRef, number: int, key: Key) -> None:
        """Keep of each event beside the message what happened, and nothing of the person."""
        for item in self._items(ref, number, key):
            event = parse_event(str(item["event"]))
            if event != nameless(event):
                terms = Terms()
                at = _ledger.event_at(ref, number, key, event.id)
                change = terms.assign({"event": event_text(nameless(event))})
                self._table.update(at, change, f"attribute_exists({terms.name('pk')})", terms)

    def _items(self, ref: CampaignRef, number: int, key: Key) -> list[Record]:
        at, terms = _ledger.event_at(ref, number, key), Terms()
        sort = f"begins_with({terms.name('sk')}, {terms.value(at.sk)})"
        return [item for page, _ in self._table.query(at.pk, terms=terms, sort=sort) for item in page]


def _heard(seen: Record, events: Sequence[Event], known: set[str]) -> _Hearing:
    """What these make of the message as `seen`."""
    news, known = _ledger.news(seen) or News(), set(known)
    fresh: list[Event] = []
    stands: list[str] = []
    new = []
    for event in events:
        new.append(event.id not in known and news.takes(event))
        if new[-1]:
            known.add(event.id)
            fresh.append(nameless(event) if seen["address"] == ERASED else event)
            news = news.hear(fresh[-1])
            sequence = _ledger.sequence(int(seen["version"]) + 1, len(stands))
            stands.append(json.dumps([*_ledger.stands(seen, news), sequence], separators=(",", ":"), ensure_ascii=False))
    return _Hearing(news, fresh, stands, new)


def _after(seen: Record, hearing: _Hearing) -> dict[str, Value] | None:
    """What changes of the item if it takes the events; None: it has no room for them."""
    heard = _ledger.hearing([*_ledger.heard(seen), *hearing.fresh]) or ""
    after: dict[str, Value] = {"heard": heard, "version": int(seen["version"]) + 1}
    if "told" in seen:
        after["told"] = _ledger.told(hearing.news)
    return after if billed(seen | after) <= _ledger.FULL_BYTES else None
