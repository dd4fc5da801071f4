"""What comes back, in the table: events of messages, and the reported half of their records (model.news).

An event is one conditional write of its message's item, which holds the events as well: one write unit. It demands the version
that the message was read with, so what two reporters tell at the same time is told one after the other, and an event that is
there was heard. Where the item would grow past its limit, the event gets an item of its own, in one transaction with what it
makes of the message: a kill leaves both or neither, and nothing is ever heard twice, not even after the message was tried again.

A call that botocore repeats because its answer was lost finds its own events there: they are new all the same. Should somebody
else have told the same in that moment, it is new to both.

Message items: stored if absent, settled under a fence, read in the order of their keys.

Each change is one conditional write of one item: one write unit, which keeps a message at two of them until it is
sent, and three once it is delivered (_news.py). `version` rises with every change and a change demands the one it was decided on,
so neither a delayed request nor two writers can undo each other. A refusal brings the item along: our own `mark` on it means
that the first try of a repeated call did it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from postroom.clock import Instant
from postroom.errors import LeaseLost, NotFound, Unavailable
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, event_text, parse_event
from postroom.model.ids import Key
from postroom.model.message import ERASED, Message, MessageRow, MessageStatus, Settlement
from postroom.model.provider_status import OWN_EVENT_PREFIX, ReportedStatus, event_from_settlement, redact_event, sort_events
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Expression, Record, Table, Value, billed, encode_item
from postroom.platform.ports.limits import check_at_rest

_TRIES = 8
_AT_ONCE = 50  # events of one message in a write: a transaction takes 100


class _Hearing(NamedTuple):
    """What some reports make of a message."""

    news: ReportedStatus
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
        unsure = [
            event.id for event in events if event.id not in known and ("told" in seen or event.id.startswith(OWN_EVENT_PREFIX))
        ]
        at = {_ledger.event_at(ref, number, _ledger.key_of(seen), id): id for id in unsure}  # noqa: A001 - the event's
        return known | {at[place] for place in self._table.get_many(at, ("sk",))}

    def _add(
        self, ref: CampaignRef, number: int, seen: Record, after: dict[str, Value], hearing: _Hearing
    ) -> tuple[bool, Record | None]:
        """Into the item itself; whether that is done, and the item now."""
        terms = Expression()
        change, condition = terms.assign(after), terms.equals("version", seen["version"])
        written = self._table.update(_ledger.message_at(ref, number, _ledger.key_of(seen)), change, condition, terms)
        if written.applied or written.item is None or not written.repeated:
            return written.applied, written.item
        there = {event.id for event in _ledger.heard(written.item)}
        return all(event.id in there for event in hearing.fresh), written.item

    def _spill(self, ref: CampaignRef, number: int, seen: Record, hearing: _Hearing) -> list[str]:
        """Each event into an item of its own. Empty: done. Else why not."""
        key, terms = _ledger.key_of(seen), Expression()
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
            absent = Expression()
            condition = absent.equals("pk", None)
            item = encode_item(_ledger.event_item(ref, number, key, event, stands))
            puts.append({"Put": absent.request(TableName=self._table.name, Item=item, ConditionExpression=condition)})
        return self._table.transact([{"Update": change}, *puts])

    def add_own(self, ref: CampaignRef, number: int, settlement: Settlement) -> None:
        """What our worker tells of an attempt that was no success, once. A success is told by the record itself."""
        event = None if settlement.status is MessageStatus.SENT else event_from_settlement(settlement)
        if event is not None:
            terms = Expression()
            self._table.put(_ledger.event_item(ref, number, settlement.key, event), terms.equals("pk", None), terms)

    def timeline(self, ref: CampaignRef, number: int, key: Key) -> list[Event]:
        """In order of time."""
        events = [parse_event(str(item["event"])) for item in self._items(ref, number, key)]
        record = self._table.get(_ledger.message_at(ref, number, key))
        events += _ledger.heard(record) if record is not None else []
        if record is not None and int(record["state"]) == MessageStatus.SENT:
            at = _ledger.instant(record, "at")
            code, reply = int(record.get("code", 0)), str(record.get("reply", ""))
            sent = at is not None and event_from_settlement(
                Settlement(key, MessageStatus.SENT, int(record["attempt"]), at, None, code, reply)
            )
            events += [sent] if sent else []
        return sort_events(events)

    def forget(self, ref: CampaignRef, number: int, key: Key) -> None:
        """Keep of each event beside the message what happened, and nothing of the person."""
        for item in self._items(ref, number, key):
            event = parse_event(str(item["event"]))
            if event != redact_event(event):
                terms = Expression()
                at = _ledger.event_at(ref, number, key, event.id)
                change = terms.assign({"event": event_text(redact_event(event))})
                self._table.update(at, change, f"attribute_exists({terms.name('pk')})", terms)

    def _items(self, ref: CampaignRef, number: int, key: Key) -> list[Record]:
        at, terms = _ledger.event_at(ref, number, key), Expression()
        sort = f"begins_with({terms.name('sk')}, {terms.value(at.sk)})"
        return [item for page, _ in self._table.query(at.pk, terms=terms, sort=sort) for item in page]


def _heard(seen: Record, events: Sequence[Event], known: set[str]) -> _Hearing:
    """What these make of the message as `seen`."""
    news, known = _ledger.news(seen) or ReportedStatus(), set(known)
    fresh: list[Event] = []
    stands: list[str] = []
    new = []
    for event in events:
        new.append(event.id not in known and news.takes(event))
        if new[-1]:
            known.add(event.id)
            fresh.append(redact_event(event) if seen["address"] == ERASED else event)
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


_GONE = "there are no messages of campaign {}"


class MessageItems:
    """The messages of every campaign in the table, and what says that a campaign has a home here."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._news = NewsItems(table)

    def batches(self, ref: CampaignRef) -> int:
        """How many batches the home has; `NotFound`."""
        record = self._table.get(_ledger.home_at(ref))
        if record is None or "gone" in record:
            raise NotFound(_GONE.format(ref.campaign))
        return int(record["batches"])

    def check(self, ref: CampaignRef, number: int) -> None:
        """`NotFound` unless the home has this batch."""
        if not 0 <= number < self.batches(ref):
            raise NotFound(f"campaign {ref.campaign} has no batch {number}")

    def store(self, ref: CampaignRef, row: MessageRow, now: Instant) -> int:
        """Insert it if its key is absent or held by a higher line that was never tried; the line that holds the key now."""
        terms = Expression()
        written = self._table.put(_ledger.stored(ref, row, now), f"attribute_not_exists({terms.name('pk')})", terms)
        if written.applied:
            return row.line
        held = written.item
        for attempt in range(_TRIES):
            if held is None:
                raise NotFound(_GONE.format(ref.campaign))
            if int(held["line"]) <= row.line or "mark" in held or "heard" in held or "told" in held:
                return int(held["line"])
            reasons = self._take_over(ref, row, held)
            if not reasons:
                return row.line
            if reasons[1] == "ConditionalCheckFailed":  # a group is open: somebody is sending what is stored
                return int(held["line"])
            self._table.pause(attempt)
            held = self._table.get(_ledger.message_at(ref, row.batch, row.key))
        raise Unavailable(f"others kept storing the recipient of line {row.line}")

    def _take_over(self, ref: CampaignRef, row: MessageRow, held: Record) -> list[str]:
        """Rare, so a transaction at twice the price: the message is as seen, and no group is open in its batch."""
        terms, batch_terms = Expression(), Expression()
        values = _ledger.replaceable(row) | {"version": int(held["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.message_at(ref, row.batch, row.key)),
            UpdateExpression=terms.assign(values),
            ConditionExpression=f"{terms.equals('version', held['version'])} AND {terms.equals('mark', None)}",
        )
        check = batch_terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.batch_at(ref, row.batch)),
            ConditionExpression=batch_terms.equals("group_keys", None),
        )
        return self._table.transact([{"Update": change}, {"ConditionCheck": check}])

    def settle(self, ref: CampaignRef, number: int, fence: int, settlement: Settlement, seen: Record) -> None:
        """Apply it to the message as `seen`, unless it stands so already. `LeaseLost`; `NotFound`: the home was dropped.

        What belongs on the timeline comes first: a kill in between leaves it there alone, and the repeat finds it."""
        values = _ledger.settled(settlement)
        if seen.get("mark") != values["mark"]:
            self._news.add_own(ref, number, settlement)
        at = _ledger.message_at(ref, number, settlement.key)
        for attempt in range(_TRIES):
            if seen.get("mark") == values["mark"]:
                return
            terms = Expression()
            condition = f"{terms.equals('version', seen['version'])} AND {_not_above(terms, fence)}"
            change = terms.assign(values | {"fence": fence, "version": int(seen["version"]) + 1})
            written = self._table.update(at, change, condition, terms)
            if written.applied:
                return
            if written.item is None:
                raise NotFound(_GONE.format(ref.campaign))
            seen = written.item
            if int(seen.get("fence", 0)) > fence:
                raise LeaseLost(f"batch {number} was opened by somebody else (fence {seen['fence']!r}, not {fence})")
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {settlement.key.hex()} of batch {number}")

    def erase(self, ref: CampaignRef, number: int, fence: int, message: Message, values: str, seen: Record) -> None:
        """Forget whom the message as `seen` was for, in its events first. `LeaseLost`; `Conflict`: it is work again."""
        at = _ledger.message_at(ref, number, message.key)
        for attempt in range(_TRIES):
            self._news.forget(ref, number, message.key)
            terms = Expression()
            condition = f"{terms.equals('version', seen['version'])} AND {_not_above(terms, fence)}"
            change = terms.assign(_ledger.erased(values, seen) | {"fence": fence, "version": int(seen["version"]) + 1})
            written = self._table.update(at, change, condition, terms)
            if written.applied:
                return
            if written.item is None:
                raise NotFound(_GONE.format(ref.campaign))
            seen = written.item
            if int(seen.get("fence", 0)) > fence:
                raise LeaseLost(f"batch {number} was opened by somebody else (fence {seen['fence']!r}, not {fence})")
            stands = _ledger.message(number, seen)
            if stands.is_erased(values):  # our own call, its answer lost
                return
            check_at_rest(stands)
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {message.key.hex()} of batch {number}")

    def stamp(self, ref: CampaignRef, number: int, key: Key, fence: int) -> bool:
        """Shut older fences out of this message; False if a newer one did so to us."""
        terms = Expression()
        version = terms.name("version")
        change = f"SET {terms.name('fence')} = {terms.value(fence)}, {version} = {version} + {terms.value(1)}"
        condition = f"attribute_exists({terms.name('pk')}) AND {_not_above(terms, fence - 1)}"
        written = self._table.update(_ledger.message_at(ref, number, key), change, condition, terms)
        return written.applied or written.item is None or int(written.item.get("fence", 0)) <= fence

    def find(self, ref: CampaignRef, number: int, keys: Collection[Key]) -> dict[Key, Record]:
        """Those that exist, whole."""
        found = self._table.get_many(_ledger.message_at(ref, number, key) for key in keys)
        return {_ledger.key_of(record): record for record in found.values()}

    def standing(self, ref: CampaignRef, number: int) -> list[Record]:
        """Key, state and due of every message of the batch."""
        return self.select(ref, number, attributes=_ledger.STANDING)

    def due(self, ref: CampaignRef, number: int, now: Instant, limit: int) -> list[Record]:
        """Messages with work at `now`."""
        terms = Expression()
        waits = _one_of(terms, (MessageStatus.DEFERRED, MessageStatus.UNKNOWN))
        pending = terms.equals("state", int(MessageStatus.PENDING))
        filter_ = f"{pending} OR ({waits} AND {terms.name('due')} <= {terms.value(now)})"
        return self.select(ref, number, terms, filter_, attributes=_ledger.RECIPIENT, limit=limit, wanted=_stands_as_settled)

    def in_states(
        self,
        ref: CampaignRef,
        number: int,
        statuses: Collection[MessageStatus],
        *,
        limit: int,
        attributes: Sequence[str] = (),
        after: str | None = None,
    ) -> list[Record]:
        """Messages in these states (none named: all), those after the key `after`."""
        terms = Expression()
        filter_ = f"{_one_of(terms, statuses)} OR {_reported(terms)}" if statuses else ""
        wanted = frozenset(statuses) or frozenset(MessageStatus)
        return self.select(
            ref,
            number,
            terms,
            filter_,
            attributes=attributes,
            limit=limit,
            after=after,
            wanted=lambda record: _ledger.standing(record).status in wanted,
        )

    def select(
        self,
        ref: CampaignRef,
        number: int,
        terms: Expression | None = None,
        filter_: str = "",
        *,
        attributes: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
        wanted: Callable[[Record], bool] | None = None,
    ) -> list[Record]:
        """Messages of the batch in key order, up to `limit` of those that pass the filter and are `wanted`."""
        terms = terms or Expression()
        found: list[Record] = []
        pk = _ledger.batch_at(ref, number).pk
        sort = f"{terms.name('sk')} >= {terms.value(_ledger.FIRST_KEY)}"
        for page, _ in self._table.query(pk, terms=terms, sort=sort, filter_=filter_, attributes=attributes, after=after):
            found += page if wanted is None else filter(wanted, page)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found


def _stands_as_settled(record: Record) -> bool:
    """Whether no news have put the message past what its worker recorded."""
    return _ledger.standing(record) == _ledger.outcome(record)


def _reported(terms: Expression) -> str:
    """Something was reported of the message."""
    return f"attribute_exists({terms.name('heard')}) OR attribute_exists({terms.name('told')})"


def _not_above(terms: Expression, fence: int) -> str:
    """No newer holder has stamped the message."""
    name = terms.name("fence")
    return f"(attribute_not_exists({name}) OR {name} <= {terms.value(fence)})"


def _one_of(terms: Expression, statuses: Collection[MessageStatus]) -> str:
    return f"{terms.name('state')} IN ({', '.join(terms.value(int(state)) for state in statuses)})"


def _key(at: Any) -> dict[str, Any]:
    return encode_item({"pk": at.pk, "sk": at.sk})
