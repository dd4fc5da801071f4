"""Batch records: the lease, fence, open group and last count of each batch.

A record is created by the batch's first opening or count. If it is absent, nothing was ever done with the batch.

**Fences.** DynamoDB checks only the item it writes; a transaction that checked the batch as well would bill every message twice
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html). Three rules make it unnecessary:

1. A worker writes to a message only while its key is in the batch's record: in the open group, or among the *touched*
   keys. Both are written under the condition that the fence is still the worker's.
2. `open` raises the fence first, and the same answer says which keys are there. No older worker can add one from then on.
   Before `open` returns, each of those messages is stamped with the new fence.
3. Every write to a message demands that the fence on it is not above the writer's.

    worker A, fence 5                       worker B, fence 6
    group {k} open, k is being sent
      (stopped; its lease runs out)         open: batch fence 5 → 6, sees the group {k}
                                            stamp k with 6
    settle k, if its fence ≤ 5  ─→ refused  open returns: only B changes k from now on
    next group, if fence = 5    ─→ refused

A write of A that lands before the stamp is a true outcome, recorded before B's `open` returned: B reads it. If B crashes before
its stamps, the group is still open, and the next `open` stamps. After a clean close nothing is open and nothing is stamped, so
stamps cost something only after a crash.

**Counts.** A count is stored only if `changes` is what it was before the messages were read; else the batch is counted again.
Between counts `due` is only lowered, so a batch with work is never overlooked.

A report marks the batch as stale after it wrote to the messages, unless the mark is there already: a burst of events
writes the mark once. So a count of a marked batch first changes the mark, and only then reads the messages:

    report  R: write message ─→ read the mark; write it unless it says STALE
    count   C: STALE → COUNTING ─→ read messages ─→ store, if `changes` is as it was

If R read STALE, its message was written before COUNTING, and so before C read it. If R read COUNTING or nothing, it writes the
mark, and C counts again. A count that dies leaves COUNTING, which counts as stale too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from postroom.clock import Instant
from postroom.errors import LeaseLost, NotFound, Unavailable
from postroom.model.batch import BatchSnapshot, Group
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import Counts, Engagement, MessageStatus
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Expression, Record, Table, Value
from postroom.platform.aws._messages import MessageItems

STALE, COUNTING = 1, 2
"""Values of a batch's `stale`: an event was reported since the last count; and a count has begun since."""


class BatchRecord(NamedTuple):
    """A batch's record."""

    number: int
    fence: int
    owner: str | None
    until: Instant | None
    group: Group | None
    touched: tuple[Key, ...]
    """Keys outside the open group that the lease's owner may be changing."""
    touched_fence: int
    due: Instant | None
    """No message has work before this time. Exact right after a count."""
    changes: int
    """Rises with each write that storing an earlier count would undo."""
    counts: Counts
    engagement: Engagement
    stale: bool
    """An event was reported since the last count."""
    counting: bool
    """It is stale and a count has begun: the next report must write the mark again."""
    unsettled: int
    opened_by: str
    counted_by: str
    """Random marks of the last opening and the last count, so that a repeated call recognizes its own write."""

    @property
    def next_due(self) -> Instant | None:
        """When the batch has work: now while a group is open or keys are touched."""
        return Instant(0) if self.group or self.touched else self.due

    @property
    def needs_count(self) -> bool:
        """Whether the stored count may be out of date: the batch is leased, has an open group or touched keys, or is stale."""
        return self.owner is not None or self.group is not None or bool(self.touched) or self.stale

    def held(self, now: Instant, dead: frozenset[str]) -> bool:
        """Whether an owner outside `dead` has a live lease."""
        return self.owner is not None and self.owner not in dead and (self.until or 0) > now

    def snapshot(self) -> BatchSnapshot:
        """The port's view of the record."""
        return BatchSnapshot(self.number, self.counts, self.due, self.owner, self.until, self.engagement)


def batch_record_from(number: int, record: Record | None) -> BatchRecord:
    """The batch's record; an untouched batch's if `record` is None."""
    r = record or {}
    keys = r.get("group_keys")
    group = None
    if isinstance(keys, bytes):
        group = Group(str(r["group_owner"]), int(r["group_fence"]), _ledger.split(keys), Instant(int(r["group_at"])))
    touched = r.get("touched", b"")
    return BatchRecord(
        number,
        int(r.get("fence", 0)),
        _ledger.text(r, "owner"),
        _ledger.instant(r, "until"),
        group,
        _ledger.split(touched) if isinstance(touched, bytes) else (),
        int(r.get("touched_fence", 0)),
        _ledger.instant(r, "due"),
        int(r.get("changes", 0)),
        Counts(*json.loads(str(r["counts"]))) if "counts" in r else Counts(),
        Engagement(*json.loads(str(r["engagement"]))) if "engagement" in r else Engagement(),
        "stale" in r,
        r.get("stale") == COUNTING,
        int(r.get("unsettled", 0)),
        str(r.get("opened_by", "")),
        str(r.get("counted_by", "")),
    )


class BatchTotals(NamedTuple):
    """The result of counting a batch."""

    counts: Counts
    engagement: Engagement
    unsettled: int
    due: Instant | None

    @classmethod
    def from_messages(cls, messages: list[Record], sending: frozenset[str] = frozenset()) -> BatchTotals:
        """Count these messages; those with a sort key in `sending` count as `sending`."""
        by_status = [0] * len(MessageStatus)
        unsettled, due = 0, None
        opened = clicked = unsubscribed = 0
        for message in messages:
            rank, reported = _ledger.current_rank(message), _ledger.reported_status(message)
            by_status[MessageStatus.SENDING if message["sk"] in sending else rank.status] += 1
            if reported is not None:
                opened += reported.opened is not None
                clicked += reported.clicked is not None
                unsubscribed += reported.unsubscribed_at is not None
            message_due = _ledger.instant(message, "due")
            if rank.status is MessageStatus.PENDING:
                due = Instant(0)
            elif rank.status in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN) and message_due is not None:
                due = message_due if due is None else min(due, message_due)
                unsettled += rank.status is MessageStatus.UNKNOWN
        counts = Counts(**{state.label: by_status[state] for state in MessageStatus})
        return cls(counts, Engagement(opened, clicked, unsubscribed), unsettled, due)

    def attributes(self) -> dict[str, Value | None]:
        """The attributes of the batch's record."""
        people = self.engagement
        counts, engagement = list(self.counts.as_dict().values()), [people.opened, people.clicked, people.unsubscribed]
        return {
            "counts": json.dumps(counts, separators=(",", ":")),
            "engagement": json.dumps(engagement, separators=(",", ":")) if any(engagement) else None,
            "stale": None,
            "unsettled": self.unsettled,
            "due": self.due,
        }


_TRIES = 8


class BatchRecords:
    """The batch records of every campaign in the table."""

    def __init__(self, table: Table, messages: MessageItems) -> None:
        self._table = table
        self._messages = messages

    def read(self, ref: CampaignRef, number: int) -> BatchRecord:
        """The batch's record."""
        return batch_record_from(number, self._table.get(_ledger.batch_key(ref, number)))

    def read_many(self, ref: CampaignRef, numbers: Sequence[int]) -> list[BatchRecord]:
        """The records of these batches in this order. Together they are not one snapshot."""
        found = self._table.get_many(_ledger.batch_key(ref, number) for number in numbers)
        return [batch_record_from(number, found.get(_ledger.batch_key(ref, number))) for number in numbers]

    def open(
        self, ref: CampaignRef, number: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str]
    ) -> BatchRecord | None:
        """Raise the fence and take the lease. Returns None while another owner holds the lease."""
        mark = self._table.mark()
        for attempt in range(_TRIES):
            seen = self.read(ref, number)
            if seen.owner != owner and seen.held(now, frozenset(dead)):
                return None
            terms = Expression()
            lease: dict[str, Value | None] = {"fence": seen.fence + 1, "owner": owner, "until": now + lease_ms, "opened_by": mark}
            unmoved = [
                terms.equals("fence", seen.fence or None),
                terms.equals("owner", seen.owner),
                terms.equals("until", seen.until),
            ]
            written = self._table.update(_ledger.batch_key(ref, number), terms.assign(lease), " AND ".join(unmoved), terms)
            opened = batch_record_from(number, written.item)
            if written.applied or opened.opened_by == mark:  # refused to our own repeated call: the first one did it
                return self._fenced(ref, opened)
            self._table.pause(attempt)
        return None

    def _fenced(self, ref: CampaignRef, opened: BatchRecord) -> BatchRecord | None:
        """Stamp the messages that an earlier owner may still write to. Returns None if the batch was opened again since."""
        keys = (*(opened.group.keys if opened.group else ()), *opened.touched)
        stamped = self._table.each(lambda key: self._messages.stamp(ref, opened.number, key, opened.fence), keys)
        return opened if all(stamped) else None

    def extend(self, ref: CampaignRef, number: int, fence: int, until: Instant) -> None:
        """Extend the lease. Raises `LeaseLost`."""
        self._change(ref, number, fence, {"until": until})

    def touch(self, ref: CampaignRef, seen: BatchRecord, fence: int, keys: Sequence[Key]) -> None:
        """Record that these messages outside the open group are about to be changed. After a crash the batch is due at once."""
        ours = seen.touched if seen.touched_fence == fence else ()  # those of an earlier owner are stamped already
        values: dict[str, Value | None] = {"touched": _ledger.join((*ours, *keys)), "touched_fence": fence, "due": Instant(0)}
        self._change(ref, seen.number, fence, values, counting="changes")

    def replace_group(
        self,
        ref: CampaignRef,
        seen: BatchRecord,
        fence: int,
        group: Sequence[Key],
        now: Instant,
        until: Instant,
        due: Instant | None,
    ) -> None:
        """After all outcomes are stored: open the next group, or close the group if `group` is empty."""
        keys = _ledger.join(tuple(group))
        opened: dict[str, Value | None] = {
            "group_keys": keys,
            "group_owner": (seen.owner or "") if keys else None,
            "group_fence": fence if keys else None,
            "group_at": now if keys else None,
        }
        rest: dict[str, Value | None] = {"touched": None, "until": until, "due": due}
        self._change(ref, seen.number, fence, opened | rest, counting="changes")

    def mark_stale(self, ref: CampaignRef, numbers: Collection[int]) -> None:
        """Mark batches as stale after events of their messages were stored. A count under way starts again. The mark is written
        only if it is absent: what is read here was true after the messages were written."""
        fresh = [batch.number for batch in self.read_many(ref, list(numbers)) if not batch.stale or batch.counting]
        self._table.each(lambda number: self._mark(ref, number), fresh)

    def _mark(self, ref: CampaignRef, number: int) -> None:
        terms = Expression()
        change = terms.assign({"stale": STALE}, counting="changes")
        self._table.update(_ledger.batch_key(ref, number), change, "", terms)

    def close(self, ref: CampaignRef, number: int, fence: int) -> BatchSnapshot:
        """Count the batch and return the lease."""
        for attempt in range(_TRIES):
            seen = self.read(ref, number)
            if seen.fence != fence:
                raise self._lost(ref, seen, fence)
            given_back: dict[str, Value | None] = {"owner": None, "until": None}
            if seen.touched_fence != fence:  # ours stay if `record` was cut short: the next `open` stamps them
                given_back["touched"] = None
            closed = self._store_count(ref, seen, given_back)
            if closed is not None:
                return closed.snapshot()
            self._table.pause(attempt)
        raise Unavailable(f"batch {number} of campaign {ref.campaign} kept changing while it was counted")

    def recount(self, ref: CampaignRef, number: int) -> None:
        """Count the batch, leased or not."""
        for attempt in range(_TRIES):
            if self._store_count(ref, self.read(ref, number), {}) is not None:
                return
            self._table.pause(attempt)
        raise Unavailable(f"batch {number} of campaign {ref.campaign} kept changing while it was counted")

    def _store_count(self, ref: CampaignRef, seen: BatchRecord, more: dict[str, Value | None]) -> BatchRecord | None:
        """Count the messages and store the count with `more`. Returns None if the record changed since `seen`."""
        if seen.stale and not seen.counting:
            begun = self._begin_count(ref, seen)
            if begun is None:
                return None
            seen = begun
        totals = BatchTotals.from_messages(self._messages.statuses(ref, seen.number))
        mark, terms = self._table.mark(), Expression()
        values = totals.attributes() | {"counted_by": mark} | more
        at, unmoved = _ledger.batch_key(ref, seen.number), _unmoved(terms, seen)
        written = self._table.update(at, terms.assign(values, counting="changes"), unmoved, terms)
        stored = batch_record_from(seen.number, written.item)
        return stored if written.applied or stored.counted_by == mark else None

    def _begin_count(self, ref: CampaignRef, seen: BatchRecord) -> BatchRecord | None:
        """Let reports mark the batch again from now on; None if it has moved since `seen`."""
        terms = Expression()
        at, unmoved = _ledger.batch_key(ref, seen.number), _unmoved(terms, seen)
        written = self._table.update(at, terms.assign({"stale": COUNTING}, counting="changes"), unmoved, terms)
        return batch_record_from(seen.number, written.item) if written.applied else None

    def _change(self, ref: CampaignRef, number: int, fence: int, values: dict[str, Value | None], *, counting: str = "") -> None:
        """Change the record under its fence. Our own repeated call is not refused: it leaves the fence as it is."""
        terms = Expression()
        change = terms.assign(values, counting=counting)
        written = self._table.update(_ledger.batch_key(ref, number), change, terms.equals("fence", fence), terms)
        if not written.applied:
            raise self._lost(ref, batch_record_from(number, written.item), fence)

    def check_fence(self, ref: CampaignRef, seen: BatchRecord, fence: int) -> None:
        """`LeaseLost` unless the batch was `seen` under this fence."""
        if seen.fence != fence:
            raise self._lost(ref, seen, fence)

    def _lost(self, ref: CampaignRef, seen: BatchRecord, fence: int) -> LeaseLost | NotFound:
        try:
            self._messages.check(ref, seen.number)
        except NotFound as absent:
            return absent
        return LeaseLost(f"batch {seen.number} was opened by another worker (fence {seen.fence}, not {fence})")


def _unmoved(terms: Expression, seen: BatchRecord) -> str:
    """Condition: nothing changed that storing a count of `seen` would undo."""
    return " AND ".join((terms.equals("fence", seen.fence or None), terms.equals("changes", seen.changes or None)))
