"""What comes back, in the table: events of messages, and the reported half of their records (model.news).

A message's new events and what they make of it are one transaction: a kill leaves both or neither, and an event that is there
was heard. It demands the message's version, and that no event of that id is there. Twice the price of plain writes; in return
nothing is ever heard twice, not even after the message was tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from postroom.errors import Unavailable
from postroom.model.campaign import Home
from postroom.model.event import Event
from postroom.model.event_text import event_text, parse_event
from postroom.model.message import ERASED, MessageState, Settlement
from postroom.model.news import News, event_of, in_order, nameless
from postroom.model.shard import Key
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Address, Record, Table, Terms, Value, encode_item

_TRIES = 8
_AT_ONCE = 50  # events of one message in a transaction, which takes 100 writes


class NewsItems:
    """The timelines of every campaign in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def hear(self, home: Home, number: int, key: Key, events: Sequence[Event]) -> list[bool]:
        """Note what came back of one message; which of it was new."""
        parts = [events[first : first + _AT_ONCE] for first in range(0, len(events), _AT_ONCE)]
        return [new for part in parts for new in self._hear(home, number, key, part)]

    def _hear(self, home: Home, number: int, key: Key, events: Sequence[Event]) -> list[bool]:
        at = _ledger.message_at(home, number, key)
        for attempt in range(_TRIES):
            seen = self._table.get(at)
            if seen is None:
                return [False] * len(events)
            known = {place.sk for place in self._table.get_many(_places(home, number, key, events), ("sk",))}
            news, fresh, new = _heard(home, number, seen, events, known)
            if not fresh or not self._write(home, number, seen, news, fresh):
                return new
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {key.hex()} of batch {number}")

    def _write(self, home: Home, number: int, seen: Record, news: News, fresh: Sequence[Event]) -> list[str]:
        """Empty: done. Else why not."""
        key, terms = _ledger.key_of(seen), Terms()
        at = _ledger.message_at(home, number, key)
        values: dict[str, Value | None] = {"told": _ledger.told(news), "version": int(seen["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=encode_item({"pk": at.pk, "sk": at.sk}),
            UpdateExpression=terms.assign(values),
            ConditionExpression=terms.equals("version", seen["version"]),
        )
        puts = []
        for event in fresh:
            absent = Terms()
            condition = absent.equals("pk", None)
            item = encode_item(_ledger.event_item(home, number, key, event))
            puts.append({"Put": absent.request(TableName=self._table.name, Item=item, ConditionExpression=condition)})
        return self._table.transact([{"Update": change}, *puts])

    def add_own(self, home: Home, number: int, settlement: Settlement) -> None:
        """What our worker tells of an attempt that was no success, once. A success is told by the record itself."""
        event = None if settlement.state is MessageState.SENT else event_of(settlement)
        if event is not None:
            terms = Terms()
            self._table.put(_ledger.event_item(home, number, settlement.key, event), terms.equals("pk", None), terms)

    def timeline(self, home: Home, number: int, key: Key) -> list[Event]:
        """In order of time."""
        events = [parse_event(str(item["event"])) for item in self._items(home, number, key)]
        record = self._table.get(_ledger.message_at(home, number, key))
        if record is not None and int(record["state"]) == MessageState.SENT:
            at = _ledger.instant(record, "at")
            code, reply = int(record.get("code", 0)), str(record.get("reply", ""))
            sent = at is not None and event_of(Settlement(key, MessageState.SENT, int(record["attempt"]), at, None, code, reply))
            events += [sent] if sent else []
        return in_order(events)

    def forget(self, home: Home, number: int, key: Key) -> None:
        """Keep of each event what happened, and nothing of the person."""
        for item in self._items(home, number, key):
            event = parse_event(str(item["event"]))
            if event != nameless(event):
                terms = Terms()
                at = _ledger.event_at(home, number, key, event.id)
                change = terms.assign({"event": event_text(nameless(event))})
                self._table.update(at, change, f"attribute_exists({terms.name('pk')})", terms)

    def _items(self, home: Home, number: int, key: Key) -> list[Record]:
        at, terms = _ledger.event_at(home, number, key), Terms()
        sort = f"begins_with({terms.name('sk')}, {terms.value(at.sk)})"
        return [item for page, _ in self._table.query(at.pk, terms=terms, sort=sort) for item in page]


def _places(home: Home, number: int, key: Key, events: Sequence[Event]) -> list[Address]:
    return [_ledger.event_at(home, number, key, event.id) for event in events]


def _heard(
    home: Home, number: int, seen: Record, events: Sequence[Event], known: set[str]
) -> tuple[News, list[Event], list[bool]]:
    """What these make of the message as `seen`: its news then, the events to be kept, and which of all are new."""
    news = _ledger.news(seen) or News()
    fresh: list[Event] = []
    new = []
    known = set(known)
    for event in events:
        place = _ledger.event_at(home, number, _ledger.key_of(seen), event.id).sk
        new.append(place not in known and news.takes(event))
        if new[-1]:
            kept = nameless(event) if seen["address"] == ERASED else event
            known.add(place)
            fresh.append(kept)
            news = news.hear(kept)
    return news, fresh, new
