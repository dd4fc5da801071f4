"""`ports.timers` in SQLite: one row for each timer, moved to its queue by the worker loop.

Firing is one transaction: a crash leaves the timer set or its body on the queue, never both, never neither.
"""

from __future__ import annotations

from postroom.clock import Clock, Instant
from postroom.errors import Invalid
from postroom.platform.embedded._sqlite import Database
from postroom.platform.embedded.queues import put_on_queue
from postroom.platform.ports.limits import check_name
from postroom.platform.ports.queues import check_body
from postroom.platform.ports.timers import MAX_AHEAD_MS

_SET = "INSERT OR REPLACE INTO timer (name, at, queue, body) VALUES (?, ?, ?, ?)"
_CANCEL = "DELETE FROM timer WHERE name = ?"
_GET = "SELECT at FROM timer WHERE name = ?"
_NEXT = "SELECT min(at) FROM timer"
_DUE = "SELECT name, queue, body FROM timer WHERE at <= ? ORDER BY at, name LIMIT ?"
_FIRED_AT_ONCE = 100  # bodies are up to 200 KB: one transaction stays small


class SqliteTimers:
    """`ports.timers.Timers` in the control database, and what the worker loop calls."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def set(self, name: str, at: Instant, queue: str, body: str) -> None:
        check_name(name, "timer")
        check_name(queue, "queue")
        check_body(body)
        if at > self._clock.now() + MAX_AHEAD_MS:
            raise Invalid(f"Timer {name} is set more than {MAX_AHEAD_MS // 86_400_000} days ahead.")
        with self._database.write() as connection:
            connection.execute(_SET, (name, at, queue, body))

    def cancel(self, name: str) -> None:
        with self._database.write() as connection:
            connection.execute(_CANCEL, (name,))

    def get(self, name: str) -> Instant | None:
        with self._database.read() as connection:
            row = connection.execute(_GET, (name,)).fetchone()
        return None if row is None else Instant(row[0])

    def next_due(self) -> Instant | None:
        """When `fire_due` next has work, or None if no timer is set."""
        with self._database.read() as connection:
            at = connection.execute(_NEXT).fetchone()[0]
        return None if at is None else Instant(at)

    def fire_due(self, now: Instant) -> int:
        """Move the timers due at `now` to their queues. Returns how many. Workers may call it concurrently."""
        fired = 0
        while (moved := self._fire_some(now)) > 0:
            fired += moved
        return fired

    def _fire_some(self, now: Instant) -> int:
        next_due = self.next_due()  # takes no write lock
        if next_due is None or next_due > now:
            return 0
        with self._database.write() as connection:
            due = connection.execute(_DUE, (now, _FIRED_AT_ONCE)).fetchall()
            for name, queue, body in due:
                put_on_queue(connection, queue, [body], now=now)
                connection.execute(_CANCEL, (name,))
        return len(due)
