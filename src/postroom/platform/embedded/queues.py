"""`ports.queues` in SQLite: one row for each item. A lease moves the time at which the item becomes visible.

A receipt is the item's id and the number of its lease. A crash at any point leaves an item as it was, or leased. A lease
that is never ended expires by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from postroom.clock import Clock, Instant
from postroom.errors import Invalid, LeaseLost
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import check_name, check_page
from postroom.platform.ports.queues import (
    MAX_PER_CALL,
    MAX_RECEIVES,
    DeadLetter,
    QueueDepth,
    Received,
    check_bodies,
    check_delay,
    check_lease,
)

_SEND = "INSERT INTO queued (queue, visible_at, sent_at, body) VALUES (?, ?, ?, ?)"
_ANY_VISIBLE = "SELECT 1 FROM queued WHERE queue = ? AND dead = 0 AND visible_at <= ? LIMIT 1"

_OLDEST_VISIBLE = """
SELECT id, body, receives, fence FROM queued
WHERE queue = ? AND dead = 0 AND visible_at <= ? AND sent_at > ?
ORDER BY visible_at, id LIMIT ?
"""

_LEASE = "UPDATE queued SET receives = receives + 1, fence = fence + 1, visible_at = ? WHERE id = ?"
_MARK_DEAD = "UPDATE queued SET dead = 1, visible_at = ? WHERE id = ?"
_STATE = "SELECT fence, dead FROM queued WHERE id = ? AND queue = ?"
_DELETE = "DELETE FROM queued WHERE id = ?"
_EXTEND = "UPDATE queued SET visible_at = ? WHERE id = ?"

_DEPTH = """
SELECT count(*) FILTER (WHERE dead = 0 AND visible_at <= :now),
       count(*) FILTER (WHERE dead = 0 AND visible_at > :now AND fence > 0),
       count(*) FILTER (WHERE dead = 0 AND visible_at > :now AND fence = 0),
       count(*) FILTER (WHERE dead = 1)
FROM queued WHERE queue = :queue AND (dead = 1 OR sent_at > :oldest)
"""

_DEAD = "SELECT id, body, receives FROM queued WHERE queue = ? AND dead = 1 ORDER BY id LIMIT ?"

# New rows, so that receipts from before are void.
_REVIVE = """
INSERT INTO queued (queue, visible_at, sent_at, body)
SELECT queue, :now, :now, body FROM queued WHERE queue = :queue AND dead = 1 ORDER BY id
"""
_DELETE_DEAD = "DELETE FROM queued WHERE queue = ? AND dead = 1"
_PURGE = "DELETE FROM queued WHERE queue = ?"
_FORGET_OLD = "DELETE FROM queued WHERE id IN (SELECT id FROM queued WHERE dead = 0 AND sent_at <= ? LIMIT 200)"
_FORGET_DEAD = """
DELETE FROM queued WHERE id IN (SELECT id FROM queued WHERE queue = ? AND dead = 1 AND visible_at <= ? LIMIT 200)
"""  # `visible_at` of a dead letter is when it became one
_KEPT_MS = 4 * 24 * 3_600_000
_DEAD_KEPT_MS = 14 * 24 * 3_600_000
"""As long as SQS keeps them. They may hold received mail with addresses, so they are deleted even if they are never looked at."""
_FORGET_EVERY_MS = 60_000


def put_on_queue(connection: sqlite3.Connection, queue: str, bodies: Sequence[str], *, now: Instant, delay_s: int = 0) -> None:
    """Add checked items in the caller's transaction: a timer fires in one commit with this."""
    visible_at = now + delay_s * 1_000
    connection.executemany(_SEND, [(queue, visible_at, now, body) for body in bodies])


class SqliteQueues:
    """`ports.queues.Queues` in the control database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._next_forget: dict[str, Instant] = {}

    def send(self, queue: str, bodies: Sequence[str], *, delay_s: int = 0) -> None:
        check_name(queue, "queue")
        check_bodies(bodies)
        check_delay(delay_s)
        if not bodies:
            return
        with self._database.write() as connection:
            put_on_queue(connection, queue, bodies, now=self._clock.now(), delay_s=delay_s)

    def receive(self, queue: str, *, limit: int = 1, lease_s: int = 30) -> list[Received]:
        check_name(queue, "queue")
        check_page(limit, MAX_PER_CALL)
        check_lease(lease_s)
        with self._database.read() as connection:  # polling an empty queue takes no write lock
            if connection.execute(_ANY_VISIBLE, (queue, self._clock.now())).fetchone() is None:
                return []
        with self._database.write() as connection:
            now = self._clock.now()  # after the wait for the lock, which would shorten the lease
            self._forget_old(connection, queue, now)
            return _lease(connection, queue, now, limit=limit, lease_s=lease_s)

    def delete(self, queue: str, receipt: str) -> None:
        identity, fence = _parse(receipt)
        with self._database.write() as connection:
            row = connection.execute(_STATE, (identity, queue)).fetchone()
            if row is None or row[1]:
                return
            _check_fence(queue, fence, row[0])
            connection.execute(_DELETE, (identity,))

    def extend(self, queue: str, receipt: str, lease_s: int) -> None:
        check_lease(lease_s)
        identity, fence = _parse(receipt)
        with self._database.write() as connection:
            row = connection.execute(_STATE, (identity, queue)).fetchone()
            if row is None or row[1]:
                raise LeaseLost(f"The item is no longer on queue {queue}.")
            _check_fence(queue, fence, row[0])
            connection.execute(_EXTEND, (self._clock.now() + lease_s * 1_000, identity))

    def depth(self, queue: str) -> QueueDepth:
        check_name(queue, "queue")
        now = self._clock.now()
        with self._database.read() as connection:
            row = connection.execute(_DEPTH, {"queue": queue, "now": now, "oldest": now - _KEPT_MS}).fetchone()
        return QueueDepth(*row)

    def dead_letters(self, queue: str, *, limit: int = 10) -> list[DeadLetter]:
        check_name(queue, "queue")
        check_page(limit, MAX_PER_CALL)
        with self._database.read() as connection:
            rows = connection.execute(_DEAD, (queue, limit)).fetchall()
        return [DeadLetter(str(identity), body, receives) for identity, body, receives in rows]

    def redrive(self, queue: str) -> int:
        check_name(queue, "queue")
        with self._database.write() as connection:
            moved = connection.execute(_REVIVE, {"queue": queue, "now": self._clock.now()}).rowcount
            connection.execute(_DELETE_DEAD, (queue,))
        return moved

    def purge(self, queue: str) -> None:
        check_name(queue, "queue")
        with self._database.write() as connection:
            connection.execute(_PURGE, (queue,))

    def _forget_old(self, connection: sqlite3.Connection, queue: str, now: Instant) -> None:
        if now >= self._next_forget.get(queue, 0):
            connection.execute(_FORGET_OLD, (now - _KEPT_MS,))
            connection.execute(_FORGET_DEAD, (queue, now - _DEAD_KEPT_MS))
            self._next_forget[queue] = Instant(now + _FORGET_EVERY_MS)


def _lease(connection: sqlite3.Connection, queue: str, now: Instant, *, limit: int, lease_s: int) -> list[Received]:
    """Lease the oldest visible items. Items received too often become dead letters first."""
    while True:
        rows = connection.execute(_OLDEST_VISIBLE, (queue, now, now - _KEPT_MS, limit)).fetchall()
        spent = [(now, identity) for identity, _, receives, _ in rows if receives >= MAX_RECEIVES]
        if not spent:
            break
        connection.executemany(_MARK_DEAD, spent)
    connection.executemany(_LEASE, [(now + lease_s * 1_000, row[0]) for row in rows])
    return [Received(str(identity), body, f"{identity}.{fence + 1}", receives + 1) for identity, body, receives, fence in rows]


def _parse(receipt: str) -> tuple[int, int]:
    try:
        identity, fence = receipt.split(".")
        return int(identity), int(fence)
    except ValueError as error:
        raise Invalid("This receipt was not given by a receive.") from error


def _check_fence(queue: str, mine: int, newest: int) -> None:
    if mine != newest:
        raise LeaseLost(f"The item on queue {queue} was received again after its lease expired.")
