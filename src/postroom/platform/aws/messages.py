"""`ports.messages` in DynamoDB. Layout: _ledger.py; fences and counts: _batches.py; costs: docs/reference/aws-table.md.

`record` stores every outcome, waits for all of them, and only then opens the next group:

    write the touched keys (only if some are outside the open group)              durable intent
    settle each message, if its fence is not newer and it is as it was read       one write unit each, 16 at a time
    replace the group, if the batch's fence is still ours                         what may be sent next

A crash between any two of these leaves the group, or the touched keys, open: the next `open` finds the recorded outcomes
on the messages, and only keys without one are in doubt. All of it may be repeated: what is stored already is not written again.
A fence that is old when a call begins changes nothing. One that grows old during the call may have recorded outcomes, all before
the new owner's `open` returned.

`report` needs no fence: it changes attributes that no settlement touches (_messages.py), and then marks the batch as stale,
even if no event was new. So after a kill in between, the repeat writes the mark.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, NotFound
from postroom.model.batch import GROUP_SIZE, BatchSnapshot, OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.message import Counts, Engagement, Message, MessageRow, MessageStatus, Recipient, Settlement, Totals
from postroom.model.provider_status import truncate_event
from postroom.platform.aws import _ledger
from postroom.platform.aws._batches import BatchRecord, BatchRecords, BatchTotals
from postroom.platform.aws._dynamo import Expression, PrimaryKey, Record, Table, Value
from postroom.platform.aws._messages import EventItems, MessageItems
from postroom.platform.ports.limits import check_page
from postroom.platform.ports.messages import (
    MessagePage,
    ReportedEvent,
    check_at_rest,
    check_events,
    message_cursor,
    parse_message_cursor,
)

_LOOK_AHEAD = 100  # batch records read in one call while listing


class DynamoMessages:
    """`ports.messages.Messages` in one table. Threads may share it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._items = MessageItems(table)
        self._events = EventItems(table)
        self._batches = BatchRecords(table, self._items)

    def create(self, ref: CampaignRef, batches: int) -> None:
        if batches < 1:
            raise Invalid(f"a campaign has at least one batch, not {batches}")
        at = _ledger.campaign_key(ref)
        known = self._table.get(at)
        if known is not None and "gone" in known:  # a drop that was cut short
            self.drop(ref)
        terms = Expression()
        record: dict[str, Value | None] = {"pk": at.pk, "sk": at.sk, "batches": batches, "format": _ledger.FORMAT}
        written = self._table.put(record, f"attribute_not_exists({terms.name('pk')})", terms)
        if not written.applied and written.item is not None and written.item["batches"] != batches:
            known_batches = written.item["batches"]
            raise Conflict(f"campaign {ref.campaign} has {known_batches!r} batches, not {batches}: the number is frozen")

    def drop(self, ref: CampaignRef) -> None:
        """Mark the campaign first and delete its record last, so that a drop that was cut short can be finished."""
        terms = Expression()
        exists = f"attribute_exists({terms.name('pk')})"
        marked = self._table.update(_ledger.campaign_key(ref), terms.assign({"gone": True}), exists, terms)
        if marked.item is None:
            return
        self._table.each(lambda number: self._drop_batch(ref, number), range(int(marked.item["batches"])))
        self._table.delete(_ledger.campaign_key(ref))

    def _drop_batch(self, ref: CampaignRef, number: int) -> None:
        at = _ledger.batch_key(ref, number)
        self._table.delete(at)  # first: without it no worker can write
        for page, _ in self._table.query(at.pk, attributes=("sk",)):
            self._table.delete_many([PrimaryKey(at.pk, str(record["sk"])) for record in page])

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        batches = self._items.batches(ref)
        lowest: dict[tuple[int, Key], MessageRow] = {}
        for row in rows:
            if not 0 <= row.batch < batches:
                raise Invalid(f"batch {row.batch} of line {row.line} is not one of the campaign's {batches}")
            rival = lowest.setdefault((row.batch, row.key), row)
            if row.line < rival.line:
                lowest[row.batch, row.key] = row
        lines = self._table.each(lambda row: self._items.store(ref, row, now), list(lowest.values()))
        holders = dict(zip(lowest, lines, strict=True))
        return [holders[row.batch, row.key] for row in rows]

    def recount(self, ref: CampaignRef, batches: Collection[int] | None = None) -> None:
        known = self._items.batches(ref)
        numbers = range(known) if batches is None else sorted({number for number in batches if 0 <= number < known})
        self._table.each(lambda number: self._batches.recount(ref, number), numbers)

    def counts(self, ref: CampaignRef) -> Counts:
        return self.totals(ref).counts

    def totals(self, ref: CampaignRef) -> Totals:
        totals = self._totals(ref)
        return Totals(sum((t.counts for t in totals), Counts()), sum((t.engagement for t in totals), Engagement()))

    def stale(self, ref: CampaignRef) -> Sequence[int]:
        return [batch.number for batch in self._all(ref) if batch.stale]

    def unsettled(self, ref: CampaignRef) -> int:
        return sum(totals.unsettled for totals in self._totals(ref))

    def _totals(self, ref: CampaignRef) -> list[BatchTotals]:
        """The stored count of each batch; those whose count may be out of date are counted now."""
        batches = self._all(ref)
        live = self._table.each(lambda batch: self._count(ref, batch), [b for b in batches if b.needs_count])
        return live + [BatchTotals(b.counts, b.engagement, b.unsettled, b.due) for b in batches if not b.needs_count]

    def _count(self, ref: CampaignRef, batch: BatchRecord) -> BatchTotals:
        sending = frozenset(key.hex() for key in batch.group.keys) if batch.group else frozenset()
        return BatchTotals.from_messages(self._items.statuses(ref, batch.number), sending)

    def _all(self, ref: CampaignRef) -> list[BatchRecord]:
        return self._batches.read_many(ref, range(self._items.batches(ref)))

    def batches(self, ref: CampaignRef, *, after: int = -1, limit: int = 100) -> list[BatchSnapshot]:
        check_page(limit)
        first = max(after + 1, 0)
        numbers = range(first, min(self._items.batches(ref), first + limit))
        found = self._batches.read_many(ref, numbers)
        return self._table.each(lambda batch: self._snapshot(ref, batch), found)

    def _snapshot(self, ref: CampaignRef, batch: BatchRecord) -> BatchSnapshot:
        if not batch.stale:
            return batch.snapshot()
        totals = BatchTotals.from_messages(self._items.statuses(ref, batch.number))
        return batch._replace(counts=totals.counts, engagement=totals.engagement, due=totals.due).snapshot()

    def due_batches(self, ref: CampaignRef, now: Instant, limit: int, *, dead: Collection[str] = ()) -> list[int]:
        gone = frozenset(dead)
        due = [b for b in self._all(ref) if b.next_due is not None and b.next_due <= now and not b.held(now, gone)]
        return [batch.number for batch in due[:limit]]

    def next_due(self, ref: CampaignRef) -> Instant | None:
        return min((batch.next_due for batch in self._all(ref) if batch.next_due is not None), default=None)

    def open(
        self, ref: CampaignRef, batch: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str] = ()
    ) -> OpenBatch | None:
        self._items.check(ref, batch)
        opened = self._batches.open(ref, batch, owner, now, lease_ms=lease_ms, dead=dead)
        return None if opened is None else OpenBatch(batch, opened.fence, opened.group)

    def extend(self, ref: CampaignRef, batch: int, fence: int, now: Instant, *, lease_ms: int) -> None:
        self._batches.extend(ref, batch, fence, Instant(now + lease_ms))

    def load(self, ref: CampaignRef, batch: int, now: Instant, limit: int) -> list[Recipient]:
        self._items.batches(ref)
        return [_ledger.recipient(record) for record in self._items.due(ref, batch, now, limit)]

    def load_state(self, ref: CampaignRef, batch: int, statuses: Collection[MessageStatus], limit: int) -> list[Recipient]:
        self._items.batches(ref)
        if not statuses:
            return []
        found = self._items.in_states(ref, batch, statuses, limit=limit, attributes=_ledger.RECIPIENT_ATTRIBUTES)
        return [_ledger.recipient(record) for record in found]

    def find(self, ref: CampaignRef, batch: int, keys: Sequence[Key]) -> list[Recipient]:
        self._items.batches(ref)
        found = self._items.find(ref, batch, keys)
        return [_ledger.recipient(found[key]) for key in sorted(found)]

    def record(
        self,
        ref: CampaignRef,
        batch: int,
        fence: int,
        settled: Sequence[Settlement],
        group: Sequence[Key],
        now: Instant,
        *,
        lease_ms: int,
    ) -> None:
        if len(group) > GROUP_SIZE:
            raise Invalid(f"a group has at most {GROUP_SIZE} messages, not {len(group)}")
        seen = self._batches.read(ref, batch)
        self._batches.check_fence(ref, seen, fence)
        last = {settlement.key: settlement for settlement in settled}
        found = self._items.find(ref, batch, last)
        if len(found) != len(last):
            raise NotFound(f"batch {batch} does not hold {len(last) - len(found)} of the messages to be settled")
        self._settle(ref, seen, fence, _unsettled(last, found), found)
        until, due = Instant(now + lease_ms), _earliest(seen.due, last.values())
        self._batches.replace_group(ref, seen, fence, group, now, until, due)

    def _settle(
        self, ref: CampaignRef, seen: BatchRecord, fence: int, changes: Sequence[Settlement], found: dict[Key, Record]
    ) -> None:
        ours = seen.touched if seen.touched_fence == fence else ()
        claimed = {*ours, *(seen.group.keys if seen.group else ())}
        touched = [change.key for change in changes if change.key not in claimed]
        if touched:
            self._batches.touch(ref, seen, fence, touched)
        self._table.each(lambda change: self._items.settle(ref, seen.number, fence, change, found[change.key]), changes)

    def record_events(self, ref: CampaignRef, reports: Sequence[ReportedEvent], now: Instant) -> Sequence[bool]:
        check_events(reports)
        batches = self._items.batches(ref)
        of_each: dict[tuple[int, Key], dict[int, Event]] = {}
        for index, (batch, key, event) in enumerate(reports):
            if 0 <= batch < batches:
                of_each.setdefault((batch, key), {})[index] = truncate_event(event)
        seen = self._events.find(ref, of_each)
        reported = self._table.each(
            lambda place: self._events.report(ref, place[0], seen.get(place), list(of_each[place].values())), list(of_each)
        )
        self._batches.mark_stale(ref, {batch for batch, _ in seen})
        new = dict(pair for place, each in zip(of_each, reported, strict=True) for pair in zip(of_each[place], each, strict=True))
        return [new.get(index, False) for index in range(len(reports))]

    def timeline(self, ref: CampaignRef, batch: int, key: Key) -> Sequence[Event]:
        self._items.batches(ref)
        return self._events.timeline(ref, batch, key)

    def close(self, ref: CampaignRef, batch: int, fence: int) -> BatchSnapshot:
        return self._batches.close(ref, batch, fence)

    def erase(self, ref: CampaignRef, batch: int, fence: int, key: Key, now: Instant, *, values: str = "[]") -> bool:
        self._items.check(ref, batch)
        seen = self._batches.read(ref, batch)
        self._batches.check_fence(ref, seen, fence)
        record = self._table.get(_ledger.message_key(ref, batch, key))
        if record is None or (message := _ledger.message(batch, record)).is_erased(values):
            return False
        check_at_rest(message)
        if seen.group is not None and key in seen.group.keys:
            raise Conflict(f"message {key.hex()} of batch {batch} is in an open group and may be on its way: settle it first")
        self._batches.touch(ref, seen, fence, [key])
        self._items.erase(ref, batch, fence, message, values, record)
        return True

    def get(self, ref: CampaignRef, batch: int, key: Key) -> Message | None:
        self._items.batches(ref)
        record = self._table.get(_ledger.message_key(ref, batch, key))
        return None if record is None else _ledger.message(batch, record)

    def list(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> MessagePage:
        check_page(limit)
        number, after = parse_message_cursor(cursor)
        batches = self._items.batches(ref)
        messages: list[Message] = []
        for first in range(number, batches, _LOOK_AHEAD):
            for batch in self._batches.read_many(ref, range(first, min(batches, first + _LOOK_AHEAD))):
                if not _may_hold(batch, statuses):
                    continue
                more = limit + 1 - len(messages)
                start = after.hex() or None if batch.number == number else None
                found = self._items.in_states(ref, batch.number, statuses, limit=more, after=start)
                messages += [_ledger.message(batch.number, record) for record in found]
                if len(messages) > limit:
                    last = messages[limit - 1]
                    return MessagePage(messages[:limit], message_cursor(last.batch, last.key))
        return MessagePage(messages, None)


def _unsettled(last: dict[Key, Settlement], found: dict[Key, Record]) -> list[Settlement]:
    """The settlements that are not recorded yet: a repeat writes nothing."""
    return [s for key, s in last.items() if found[key].get("mark") != _ledger.settled_attributes(s)["mark"]]


def _earliest(due: Instant | None, settled: Collection[Settlement]) -> Instant | None:
    """`due`, or earlier if a settlement leaves work before it."""
    dues = (due, *(settlement.next_work for settlement in settled))
    return min((one for one in dues if one is not None), default=None)


def _may_hold(batch: BatchRecord, statuses: Collection[MessageStatus]) -> bool:
    """Whether the batch may hold messages with these statuses, by its count."""
    counts = batch.counts.as_dict()
    return batch.needs_count or any(counts[state.label] for state in (statuses or MessageStatus))
