"""A batch's record, and what counting its messages makes of it.

It is made by the batch's first opening or count; where there is none, nothing was ever done with the batch.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.batch import BatchSnapshot, Group
from postroom.model.message import Counts, Engagement, MessageStatus
from postroom.model.shard import Key
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Record, Value

TOLD, COUNTING = 1, 2
"""What `stale` of a batch says: reported of since its count; and being counted since that was marked."""


class Batch(NamedTuple):
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


def batch_of(number: int, record: Record | None) -> Batch:
    """The batch's record, where it has none that of an untouched one."""
    r = record or {}
    keys = r.get("group_keys")
    group = None
    if isinstance(keys, bytes):
        group = Group(str(r["group_owner"]), int(r["group_fence"]), _ledger.split(keys), Instant(int(r["group_at"])))
    touched = r.get("touched", b"")
    return Batch(
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


class Tally(NamedTuple):
    """A batch, counted."""

    counts: Counts
    engagement: Engagement
    unsettled: int
    due: Instant | None

    @classmethod
    def of(cls, messages: list[Record], sending: frozenset[str] = frozenset()) -> Tally:
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
