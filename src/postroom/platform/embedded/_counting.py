"""Counting a batch: its messages by where they stand, and what their recipients did."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.message import Counts, Engagement, MessageStatus, Totals
from postroom.model.shard import KEY_BYTES
from postroom.platform.embedded import _ledger_sql as sql


class Tally(NamedTuple):
    """A batch, counted now."""

    totals: Totals
    unsettled: int
    next_due: Instant | None


def count(db: sqlite3.Connection, batch: int) -> Tally:
    """Messages by where they stand (none is `sending`), the unsettled among the unknown, and when there is work next."""
    total: int = db.execute(sql.COUNT_MESSAGES, (batch,)).fetchone()[0]
    by_label: dict[str, int] = {}
    engagement = Engagement()
    known = db.execute(sql.FENCE, (batch,)).fetchone()
    outcomes = sql.COUNT_OUTCOMES if known and known[1] else sql.COUNT_UNHEARD
    unsettled, next_due, tried = 0, None, 0
    for state, number, with_due, due, *people in db.execute(outcomes, (batch,)).fetchall():
        tried += number
        by_label[MessageStatus(state).label] = number
        engagement = engagement + Engagement(*people)
        if state == MessageStatus.UNKNOWN:
            unsettled = with_due
        if due is not None and state in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN):
            next_due = due if next_due is None else min(due, next_due)
    by_label["pending"] = by_label.get("pending", 0) + total - tried
    totals = Totals(Counts(**by_label), engagement)
    return Tally(totals, unsettled, Instant(0) if by_label["pending"] else next_due)


def store_count(db: sqlite3.Connection, batch: int) -> None:
    """Count it and keep that."""
    totals, unsettled, next_due = count(db, batch)
    people = totals.engagement
    values = {"opened": people.opened, "clicked": people.clicked, "unsubscribed": people.unsubscribed}
    rest = {"unsettled": unsettled, "next_due": next_due, "number": batch}
    db.execute(sql.STORE_COUNT, {**totals.counts.as_dict(), **values, **rest})


def live_totals(db: sqlite3.Connection, batch: int, group: bytes | None) -> Totals:
    """Counted now, with those of its open group as `sending`."""
    totals = count(db, batch).totals
    if not group:
        return totals
    counts = totals.counts.as_dict()
    values = {"batch": batch, "keys": group, "count": len(group) // KEY_BYTES}
    for state, number in db.execute(sql.COUNT_GROUP, values).fetchall():
        counts[MessageStatus(state).label] -= number
        counts["sending"] += number
    return totals._replace(counts=Counts(**counts))


def stored_totals(row: Sequence[int]) -> Totals:
    """As `store_count` kept them."""
    pending, deferred, *rest = row
    return Totals(Counts(pending, 0, deferred, *rest[:-3]), Engagement(*rest[-3:]))
