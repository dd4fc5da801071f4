"""Message items and their events: stored if absent, settled under a fence, read in the order of their keys.

Each change is one conditional write of one item, one write unit: two for a message until it is sent, three once it is
delivered. `version` rises with each change, and a change demands the version it was decided on, so neither a delayed request nor
two writers can undo each other. A refusal returns the item
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html, ReturnValuesOnConditionCheckFailure): our own
`mark` on it means that the first try of a repeated call did it.

**Events.** An event is one conditional write of its message's item, which holds the events too. Where the item would grow past
its limit, the event gets its own item, in one transaction with the message's reported status: a kill leaves both or neither, and
no event is counted twice, not even after the message was tried again. A call that botocore repeats because its answer was lost
finds its own events stored: they are new all the same. If another reporter stored the same event at that moment, it is new to
both.
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
from postroom.platform.ports.messages import check_at_rest

_TRIES = 8
_AT_ONCE = 50  # events of one message in a write. A transaction takes 100 actions:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html


class _NewEvents(NamedTuple):
    """What storing some reported events changes."""

    reported: ReportedStatus
    """After all of them."""
    events: Sequence[Event]
    """The events to store."""
    statuses: Sequence[str]
    """The message's status after each of `events`, as JSON, for the stream."""
    is_new: Sequence[bool]
    """Of each reported event: whether it is among `events`."""


class EventItems:
    """The timelines of every campaign in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, ref: CampaignRef, places: Iterable[tuple[int, Key]]) -> dict[tuple[int, Key], Record]:
        """The items of these messages, those that exist."""
        at = {place: _ledger.message_key(ref, *place) for place in places}
        found = self._table.get_many(at.values())
        return {place: found[address] for place, address in at.items() if address in found}

    def report(self, ref: CampaignRef, number: int, seen: Record | None, events: Sequence[Event]) -> list[bool]:
        """Store events reported of one message, read as `seen`. Returns which of them were new."""
        all_new: list[bool] = []
        for first in range(0, len(events), _AT_ONCE):
            part = events[first : first + _AT_ONCE]
            seen, each = (None, [False] * len(part)) if seen is None else self._report(ref, number, seen, part)
            all_new += each
        return all_new

    def _report(
        self, ref: CampaignRef, number: int, seen: Record, events: Sequence[Event]
    ) -> tuple[Record | None, Sequence[bool]]:
        """The message's item afterwards, and which events were new."""
        key = _ledger.key_of(seen)
        for attempt in range(_TRIES):
            new = _new_events(seen, events, self._known(ref, number, seen, events))
            if not new.events:
                return seen, new.is_new
            after = _with_events(seen, new)
            if after is None:
                done, found = not self._spill(ref, number, seen, new), self._table.get(_ledger.message_key(ref, number, key))
            else:
                done, found = self._add(ref, number, seen, after, new)
            if done or found is None:
                return found, new.is_new if done else [False] * len(events)
            seen = found
            self._table.pause(attempt)
        raise Unavailable(f"other writers kept changing the message {key.hex()} of batch {number}")

    def _known(self, ref: CampaignRef, number: int, seen: Record, events: Sequence[Event]) -> set[str]:
        """Ids of these events that are stored. Only events that found no room in the item, and our worker's own, have items."""
        known = {event.id for event in _ledger.stored_events(seen)}
        unsure = [
            event.id
            for event in events
            if event.id not in known and ("reported" in seen or event.id.startswith(OWN_EVENT_PREFIX))
        ]
        at = {_ledger.event_key(ref, number, _ledger.key_of(seen), id): id for id in unsure}  # noqa: A001 - the event's
        return known | {at[place] for place in self._table.get_many(at, ("sk",))}

    def _add(
        self, ref: CampaignRef, number: int, seen: Record, after: dict[str, Value], new: _NewEvents
    ) -> tuple[bool, Record | None]:
        """Store events in the message's item. Returns whether that is done, and the item now."""
        terms = Expression()
        change, condition = terms.assign(after), terms.equals("version", seen["version"])
        written = self._table.update(_ledger.message_key(ref, number, _ledger.key_of(seen)), change, condition, terms)
        if written.applied or written.item is None or not written.repeated:
            return written.applied, written.item
        there = {event.id for event in _ledger.stored_events(written.item)}
        return all(event.id in there for event in new.events), written.item

    def _spill(self, ref: CampaignRef, number: int, seen: Record, new: _NewEvents) -> list[str]:
        """Store each event in its own item. Returns an empty list if done, else the reasons of the refusal."""
        key, terms = _ledger.key_of(seen), Expression()
        at = _ledger.message_key(ref, number, key)
        values: dict[str, Value | None] = {"reported": _ledger.reported_text(new.reported), "version": int(seen["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=encode_item({"pk": at.pk, "sk": at.sk}),
            UpdateExpression=terms.assign(values),
            ConditionExpression=terms.equals("version", seen["version"]),
        )
        puts = []
        for event, status in zip(new.events, new.statuses, strict=True):
            absent = Expression()
            condition = absent.equals("pk", None)
            item = encode_item(_ledger.event_item(ref, number, key, event, status))
            puts.append({"Put": absent.request(TableName=self._table.name, Item=item, ConditionExpression=condition)})
        return self._table.transact([{"Update": change}, *puts])

    def add_own(self, ref: CampaignRef, number: int, settlement: Settlement) -> None:
        """Store the event of an attempt without success, once. A success follows from the message's item."""
        event = None if settlement.status is MessageStatus.SENT else event_from_settlement(settlement)
        if event is not None:
            terms = Expression()
            self._table.put(_ledger.event_item(ref, number, settlement.key, event), terms.equals("pk", None), terms)

    def timeline(self, ref: CampaignRef, number: int, key: Key) -> list[Event]:
        """The message's events in order of time."""
        events = [parse_event(str(item["event"])) for item in self._items(ref, number, key)]
        record = self._table.get(_ledger.message_key(ref, number, key))
        events += _ledger.stored_events(record) if record is not None else []
        if record is not None and int(record["status"]) == MessageStatus.SENT:
            at = _ledger.instant(record, "at")
            code, reply = int(record.get("code", 0)), str(record.get("reply", ""))
            sent = at is not None and event_from_settlement(
                Settlement(key, MessageStatus.SENT, int(record["attempt"]), at, None, code, reply)
            )
            events += [sent] if sent else []
        return sort_events(events)

    def forget(self, ref: CampaignRef, number: int, key: Key) -> None:
        """Remove everything personal from the message's event items."""
        for item in self._items(ref, number, key):
            event = parse_event(str(item["event"]))
            if event != redact_event(event):
                terms = Expression()
                at = _ledger.event_key(ref, number, key, event.id)
                change = terms.assign({"event": event_text(redact_event(event))})
                self._table.update(at, change, f"attribute_exists({terms.name('pk')})", terms)

    def _items(self, ref: CampaignRef, number: int, key: Key) -> list[Record]:
        at, terms = _ledger.event_key(ref, number, key), Expression()
        sort = f"begins_with({terms.name('sk')}, {terms.value(at.sk)})"
        return [item for page, _ in self._table.query(at.pk, terms=terms, sort=sort) for item in page]


def _new_events(seen: Record, events: Sequence[Event], known: set[str]) -> _NewEvents:
    """What storing these events changes of the message as `seen`. `known`: ids of stored events."""
    reported, known = _ledger.reported_status(seen) or ReportedStatus(), set(known)
    kept: list[Event] = []
    statuses: list[str] = []
    new = []
    for event in events:
        new.append(event.id not in known and reported.takes(event))
        if new[-1]:
            known.add(event.id)
            kept.append(redact_event(event) if seen["address"] == ERASED else event)
            reported = reported.hear(kept[-1])
            sequence = _ledger.sequence(int(seen["version"]) + 1, len(statuses))
            status = [*_ledger.current_status(seen, reported), sequence]
            statuses.append(json.dumps(status, separators=(",", ":"), ensure_ascii=False))
    return _NewEvents(reported, kept, statuses, new)


def _with_events(seen: Record, new: _NewEvents) -> dict[str, Value] | None:
    """The item's changed attributes with these events, or None if it has no room for them."""
    events = _ledger.events_json([*_ledger.stored_events(seen), *new.events]) or ""
    after: dict[str, Value] = {"events": events, "version": int(seen["version"]) + 1}
    if "reported" in seen:
        after["reported"] = _ledger.reported_text(new.reported)
    return after if billed(seen | after) <= _ledger.FULL_BYTES else None


_GONE = "there are no messages of campaign {}"


class MessageItems:
    """The messages of every campaign in the table, and the campaigns' own records."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._events = EventItems(table)

    def batches(self, ref: CampaignRef) -> int:
        """How many batches the campaign has. Raises `NotFound`, or `Unsupported` if its items have another format."""
        record = self._table.get(_ledger.campaign_key(ref))
        if record is None or "gone" in record:
            raise NotFound(_GONE.format(ref.campaign))
        _ledger.check_format(ref, record)
        return int(record["batches"])

    def check(self, ref: CampaignRef, number: int) -> None:
        """Raises `NotFound` unless the campaign has this batch."""
        if not 0 <= number < self.batches(ref):
            raise NotFound(f"campaign {ref.campaign} has no batch {number}")

    def store(self, ref: CampaignRef, row: MessageRow, now: Instant) -> int:
        """Insert the row if its key is absent, or held by a higher line that was never tried. Returns the line that holds the
        key now."""
        terms = Expression()
        written = self._table.put(_ledger.new_message_item(ref, row, now), f"attribute_not_exists({terms.name('pk')})", terms)
        if written.applied:
            return row.line
        held = written.item
        for attempt in range(_TRIES):
            if held is None:
                raise NotFound(_GONE.format(ref.campaign))
            if int(held["line"]) <= row.line or "mark" in held or "events" in held or "reported" in held:
                return int(held["line"])
            reasons = self._take_over(ref, row, held)
            if not reasons:
                return row.line
            if reasons[1] == "ConditionalCheckFailed":  # a group is open: the stored row may be on its way
                return int(held["line"])
            self._table.pause(attempt)
            held = self._table.get(_ledger.message_key(ref, row.batch, row.key))
        raise Unavailable(f"other writers kept storing the recipient of line {row.line}")

    def _take_over(self, ref: CampaignRef, row: MessageRow, held: Record) -> list[str]:
        """Rare, so a transaction at twice the price: it demands that the message is as read and no group is open in its batch."""
        terms, batch_terms = Expression(), Expression()
        values = _ledger.row_attributes(row) | {"version": int(held["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.message_key(ref, row.batch, row.key)),
            UpdateExpression=terms.assign(values),
            ConditionExpression=f"{terms.equals('version', held['version'])} AND {terms.equals('mark', None)}",
        )
        check = batch_terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.batch_key(ref, row.batch)),
            ConditionExpression=batch_terms.equals("group_keys", None),
        )
        return self._table.transact([{"Update": change}, {"ConditionCheck": check}])

    def settle(self, ref: CampaignRef, number: int, fence: int, settlement: Settlement, seen: Record) -> None:
        """Record an outcome on the message, read as `seen`, unless it is recorded already. Raises `LeaseLost`, and `NotFound`
        if the campaign was dropped.

        The timeline's event is written first: a kill in between leaves the event alone, and the repeat finds it."""
        values = _ledger.settled_attributes(settlement)
        if seen.get("mark") != values["mark"]:
            self._events.add_own(ref, number, settlement)
        at = _ledger.message_key(ref, number, settlement.key)
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
                raise LeaseLost(f"batch {number} was opened by another worker (fence {seen['fence']!r}, not {fence})")
            self._table.pause(attempt)
        raise Unavailable(f"other writers kept changing the message {settlement.key.hex()} of batch {number}")

    def erase(self, ref: CampaignRef, number: int, fence: int, message: Message, values: str, seen: Record) -> None:
        """Forget whom the message as `seen` was for, in its events first. `LeaseLost`; `Conflict`: it is work again."""
        at = _ledger.message_key(ref, number, message.key)
        for attempt in range(_TRIES):
            self._events.forget(ref, number, message.key)
            terms = Expression()
            condition = f"{terms.equals('version', seen['version'])} AND {_not_above(terms, fence)}"
            change = terms.assign(_ledger.erased_attributes(values, seen) | {"fence": fence, "version": int(seen["version"]) + 1})
            written = self._table.update(at, change, condition, terms)
            if written.applied:
                return
            if written.item is None:
                raise NotFound(_GONE.format(ref.campaign))
            seen = written.item
            if int(seen.get("fence", 0)) > fence:
                raise LeaseLost(f"batch {number} was opened by another worker (fence {seen['fence']!r}, not {fence})")
            stands = _ledger.message(number, seen)
            if stands.is_erased(values):  # our own call, its answer lost
                return
            check_at_rest(stands)
            self._table.pause(attempt)
        raise Unavailable(f"other writers kept changing the message {message.key.hex()} of batch {number}")

    def stamp(self, ref: CampaignRef, number: int, key: Key, fence: int) -> bool:
        """Refuse writes of older fences to this message from now on. False if a newer fence was stamped already."""
        terms = Expression()
        version = terms.name("version")
        change = f"SET {terms.name('fence')} = {terms.value(fence)}, {version} = {version} + {terms.value(1)}"
        condition = f"attribute_exists({terms.name('pk')}) AND {_not_above(terms, fence - 1)}"
        written = self._table.update(_ledger.message_key(ref, number, key), change, condition, terms)
        return written.applied or written.item is None or int(written.item.get("fence", 0)) <= fence

    def find(self, ref: CampaignRef, number: int, keys: Collection[Key]) -> dict[Key, Record]:
        """The items of these messages, those that exist."""
        found = self._table.get_many(_ledger.message_key(ref, number, key) for key in keys)
        return {_ledger.key_of(record): record for record in found.values()}

    def statuses(self, ref: CampaignRef, number: int) -> list[Record]:
        """Status and due time of every message of the batch."""
        return self.select(ref, number, attributes=_ledger.STATUS_ATTRIBUTES)

    def due(self, ref: CampaignRef, number: int, now: Instant, limit: int) -> list[Record]:
        """Messages with work at `now`."""
        terms = Expression()
        waits = _one_of(terms, (MessageStatus.DEFERRED, MessageStatus.UNKNOWN))
        pending = terms.equals("status", int(MessageStatus.PENDING))
        filter_ = f"{pending} OR ({waits} AND {terms.name('due')} <= {terms.value(now)})"
        return self.select(
            ref, number, terms, filter_, attributes=_ledger.RECIPIENT_ATTRIBUTES, limit=limit, wanted=_is_as_settled
        )

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
        """Messages with these statuses (none given: all) after the key `after`."""
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
            wanted=lambda record: _ledger.current_rank(record).status in wanted,
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
        """Up to `limit` messages of the batch in key order that pass the filter and `wanted`."""
        terms = terms or Expression()
        found: list[Record] = []
        pk = _ledger.batch_key(ref, number).pk
        sort = f"{terms.name('sk')} >= {terms.value(_ledger.FIRST_KEY)}"
        for page, _ in self._table.query(pk, terms=terms, sort=sort, filter_=filter_, attributes=attributes, after=after):
            found += page if wanted is None else filter(wanted, page)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found


def _is_as_settled(record: Record) -> bool:
    """Whether the reported status is not ahead of the recorded one."""
    return _ledger.current_rank(record) == _ledger.outcome_rank(record)


def _reported(terms: Expression) -> str:
    """Condition: events were reported of the message."""
    return f"attribute_exists({terms.name('events')}) OR attribute_exists({terms.name('reported')})"


def _not_above(terms: Expression, fence: int) -> str:
    """Condition: no newer fence was stamped on the message."""
    name = terms.name("fence")
    return f"(attribute_not_exists({name}) OR {name} <= {terms.value(fence)})"


def _one_of(terms: Expression, statuses: Collection[MessageStatus]) -> str:
    return f"{terms.name('status')} IN ({', '.join(terms.value(int(state)) for state in statuses)})"


def _key(at: Any) -> dict[str, Any]:
    return encode_item({"pk": at.pk, "sk": at.sk})
