"""A batch's record, and what counting its messages makes of it.

It is made by the batch's first opening or count; where there is none, nothing was ever done with the batch.

Batch records: the lease, the fence, the open group and the count of each batch.

Why the holder of an old fence cannot change a message, though DynamoDB checks only the item it writes (a transaction would
check the batch as well, and bill every message twice):

1. A holder writes to a message only while its key stands in the batch's record: in the open group, or among the *touched*
   keys. Both are written under the condition that the fence is still the holder's.
2. Whoever opens the batch raises the fence first, and reads in the same answer which keys stood there. No older holder can
   add one from then on. Before `open` returns, each of those messages is stamped with the new fence.
3. Every write to a message demands that the fence on it is not above the writer's.

    worker A, fence 5                       worker B, fence 6
    group {k} open, k is being sent
      (stopped; its lease runs out)         open: batch fence 5 → 6, sees the group {k}
                                            stamp k with 6
    settle k, if its fence ≤ 5  ─→ refused  open returns: the state of k is now B's to judge
    next group, if fence = 5    ─→ refused

A write of A that lands before the stamp is a true outcome, recorded before B's `open` returned: B finds it there. B crashed
before its stamps: whoever opens next finds the group still open and stamps. Nothing was left open, as ever but after a
crash: no stamp, no cost.

Counting must not lose a change either. A recount demands that `changes` is still what it was before the messages were read,
else it counts anew; `due` is only ever lowered between counts, so a batch with work is never overlooked.

A report marks the batch as stale after it wrote to the messages, but not again where it is marked already: a burst of events
writes the mark once. So a count of a marked batch says first that it begins, and only then reads the messages:

    report  R: write message ─→ read the mark; write it unless it says "told"
    count   C: "told" → "counting" ─→ read messages ─→ store, if `changes` is as it was

R found "told": its message was written before "counting", and so before C read it. R found "counting", or nothing: it writes the
mark, and C counts anew. A count that dies leaves "counting", which is as stale as "told".
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

TOLD, COUNTING = 1, 2
"""What `stale` of a batch says: reported of since its count; and being counted since that was marked."""


class BatchRecord(NamedTuple):
    """A batch's record."""

    number: int
    fence: int
    owner: str | None
    until: Instant | None
    group: Group | None
    touched: tuple[Key, ...]
    """Keys outside the open group that its holder set out to change, and may be changing."""
    touched_fence: int
    due: Instant | None
    """No message has work before: true at every moment; right after a count it is exact."""
    changes: int
    """Rises with each write that a count of before would undo."""
    counts: Counts
    engagement: Engagement
    stale: bool
    """Something was reported of its messages since the count."""
    counting: bool
    """It is stale, and a count has begun since: whoever reports something marks it anew."""
    unsettled: int
    opened_by: str
    counted_by: str
    """Marks of the last opening and the last count: whose they were."""

    @property
    def next_due(self) -> Instant | None:
        """When it has work: at once while keys stand open or touched, whatever was counted."""
        return Instant(0) if self.group or self.touched else self.due

    @property
    def in_hands(self) -> bool:
        """Whether the stored count may be from before: somebody holds it, or left it open, or there is news."""
        return self.owner is not None or self.group is not None or bool(self.touched) or self.stale

    def held(self, now: Instant, dead: frozenset[str]) -> bool:
        """Whether somebody has a live lease."""
        return self.owner is not None and self.owner not in dead and (self.until or 0) > now

    def snapshot(self) -> BatchSnapshot:
        """As the port shows it."""
        return BatchSnapshot(self.number, self.counts, self.due, self.owner, self.until, self.engagement)


def batch_record_from(number: int, record: Record | None) -> BatchRecord:
    """The batch's record, where it has none that of an untouched one."""
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
    """A batch, counted."""

    counts: Counts
    engagement: Engagement
    unsettled: int
    due: Instant | None

    @classmethod
    def of(cls, messages: list[Record], sending: frozenset[str] = frozenset()) -> BatchTotals:
        """Count them; those whose `sk` is in `sending` as that."""
        by_state = [0] * len(MessageStatus)
        unsettled, due = 0, None
        opened = clicked = unsubscribed = 0
        for message in messages:
            stands, told = _ledger.standing(message), _ledger.news(message)
            by_state[MessageStatus.SENDING if message["sk"] in sending else stands.status] += 1
            if told is not None:
                opened += told.opened is not None
                clicked += told.clicked is not None
                unsubscribed += told.unsubscribed_at is not None
            message_due = _ledger.instant(message, "due")
            if stands.status is MessageStatus.PENDING:
                due = Instant(0)
            elif stands.status in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN) and message_due is not None:
                due = message_due if due is None else min(due, message_due)
                unsettled += stands.status is MessageStatus.UNKNOWN
        counts = Counts(**{state.label: by_state[state] for state in MessageStatus})
        return cls(counts, Engagement(opened, clicked, unsubscribed), unsettled, due)

    def attributes(self) -> dict[str, Value | None]:
        """For the batch's record."""
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
        """The record as it stands."""
        return batch_record_from(number, self._table.get(_ledger.batch_at(ref, number)))

    def read_many(self, ref: CampaignRef, numbers: Sequence[int]) -> list[BatchRecord]:
        """The records of these batches, in this order; each as it stands, all of them not one snapshot."""
        found = self._table.get_many(_ledger.batch_at(ref, number) for number in numbers)
        return [batch_record_from(number, found.get(_ledger.batch_at(ref, number))) for number in numbers]

    def open(
        self, ref: CampaignRef, number: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str]
    ) -> BatchRecord | None:
        """Raise the fence and take the lease; None while it is held."""
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
            written = self._table.update(_ledger.batch_at(ref, number), terms.assign(lease), " AND ".join(unmoved), terms)
            opened = batch_record_from(number, written.item)
            if written.applied or opened.opened_by == mark:  # refused to our own repeated call: the first one did it
                return self._fenced(ref, opened)
            self._table.pause(attempt)
        return None

    def _fenced(self, ref: CampaignRef, opened: BatchRecord) -> BatchRecord | None:
        """Stamp what an earlier holder may still be writing to; None if somebody opened the batch even since."""
        keys = (*(opened.group.keys if opened.group else ()), *opened.touched)
        stamped = self._table.each(lambda key: self._messages.stamp(ref, opened.number, key, opened.fence), keys)
        return opened if all(stamped) else None

    def extend(self, ref: CampaignRef, number: int, fence: int, until: Instant) -> None:
        """Keep the lease."""
        self._change(ref, number, fence, {"until": until})

    def touch(self, ref: CampaignRef, seen: BatchRecord, fence: int, keys: Sequence[Key]) -> None:
        """Write down that these messages outside the open group are going to be changed. Looked at again at once if we die."""
        ours = seen.touched if seen.touched_fence == fence else ()  # an earlier holder's are stamped, and need it no more
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
        """All that was to be changed is changed: open the next group, or none."""
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
        """Something was reported of messages of these: a count from before is out of date, and one under way counts anew. Written
        only where it does not stand there yet: what stands there now was true after the messages were written."""
        fresh = [batch.number for batch in self.read_many(ref, list(numbers)) if not batch.stale or batch.counting]
        self._table.each(lambda number: self._mark(ref, number), fresh)

    def _mark(self, ref: CampaignRef, number: int) -> None:
        terms = Expression()
        change = terms.assign({"stale": TOLD}, counting="changes")
        self._table.update(_ledger.batch_at(ref, number), change, "", terms)

    def close(self, ref: CampaignRef, number: int, fence: int) -> BatchSnapshot:
        """Count, and give the lease back."""
        for attempt in range(_TRIES):
            seen = self.read(ref, number)
            if seen.fence != fence:
                raise self._lost(ref, seen, fence)
            given_back: dict[str, Value | None] = {"owner": None, "until": None}
            if seen.touched_fence != fence:  # ours stay if `record` never came to its end: it is for the next to stamp them
                given_back["touched"] = None
            closed = self._store_count(ref, seen, given_back)
            if closed is not None:
                return closed.snapshot()
            self._table.pause(attempt)
        raise Unavailable(f"batch {number} of campaign {ref.campaign} changed while it was counted, again and again")

    def recount(self, ref: CampaignRef, number: int) -> None:
        """Count, whoever holds it."""
        for attempt in range(_TRIES):
            if self._store_count(ref, self.read(ref, number), {}) is not None:
                return
            self._table.pause(attempt)
        raise Unavailable(f"batch {number} of campaign {ref.campaign} changed while it was counted, again and again")

    def _store_count(self, ref: CampaignRef, seen: BatchRecord, more: dict[str, Value | None]) -> BatchRecord | None:
        """Count the messages and store it with `more`; None if the record has moved since `seen`."""
        if seen.stale and not seen.counting:
            begun = self._begin_count(ref, seen)
            if begun is None:
                return None
            seen = begun
        tally = BatchTotals.of(self._messages.standing(ref, seen.number))
        mark, terms = self._table.mark(), Expression()
        values = tally.attributes() | {"counted_by": mark} | more
        at, unmoved = _ledger.batch_at(ref, seen.number), _unmoved(terms, seen)
        written = self._table.update(at, terms.assign(values, counting="changes"), unmoved, terms)
        stored = batch_record_from(seen.number, written.item)
        return stored if written.applied or stored.counted_by == mark else None

    def _begin_count(self, ref: CampaignRef, seen: BatchRecord) -> BatchRecord | None:
        """Let reports mark the batch again from now on; None if it has moved since `seen`."""
        terms = Expression()
        at, unmoved = _ledger.batch_at(ref, seen.number), _unmoved(terms, seen)
        written = self._table.update(at, terms.assign({"stale": COUNTING}, counting="changes"), unmoved, terms)
        return batch_record_from(seen.number, written.item) if written.applied else None

    def _change(self, ref: CampaignRef, number: int, fence: int, values: dict[str, Value | None], *, counting: str = "") -> None:
        """Change the record under its fence. Our own repeated call is not refused: it leaves the fence as it is."""
        terms = Expression()
        change = terms.assign(values, counting=counting)
        written = self._table.update(_ledger.batch_at(ref, number), change, terms.equals("fence", fence), terms)
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
        return LeaseLost(f"batch {seen.number} was opened by somebody else (fence {seen.fence}, not {fence})")


def _unmoved(terms: Expression, seen: BatchRecord) -> str:
    """Nothing was changed that a count of what was `seen` would undo."""
    return " AND ".join((terms.equals("fence", seen.fence or None), terms.equals("changes", seen.changes or None)))
