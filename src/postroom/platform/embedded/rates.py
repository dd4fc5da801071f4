"""Rates on SQLite: a row a bucket, in a file of its own so that no send waits for a campaign. The promise is `ports.rates`.

The file is not synced at each grant: a power cut may forget the last seconds, which only leaves the time line free. A
bucket with a daily limit is: its count must survive, and such limits belong to slow providers.
"""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import NamedTuple

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import utf8
from postroom.platform.ports.rates import BURST_MS, HORIZON_MS, Grant, Limit, UsedUp

_MIGRATIONS = (
    """
    -- `free_at`: the bucket's next free moment, in milliseconds. `slow_*`: what the last throttle answer taught.
    CREATE TABLE bucket (
        name       TEXT    NOT NULL PRIMARY KEY,
        per_second REAL,
        per_day    INTEGER,
        free_at    REAL    NOT NULL DEFAULT 0,
        day        INTEGER NOT NULL DEFAULT 0,
        used       INTEGER NOT NULL DEFAULT 0,
        slow_from  REAL,
        slow_until REAL,
        slow_at    INTEGER
    ) STRICT, WITHOUT ROWID;
    """,
)

_GET = "SELECT per_second, per_day, free_at, day, used, slow_from, slow_until, slow_at FROM bucket WHERE name = ?"

# The last send's gap is measured anew: nobody waits out a slower rate that no longer holds.
_LIMIT = """
INSERT INTO bucket (name, per_second, per_day) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET per_second = excluded.per_second, per_day = excluded.per_day,
    free_at = free_at + coalesce(1000.0 / excluded.per_second - 1000.0 / bucket.per_second, 0)
"""

_TAKE = """
INSERT INTO bucket (name, free_at, day, used) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET free_at = excluded.free_at, day = excluded.day, used = excluded.used
"""

_REFUND = "UPDATE bucket SET used = max(0, used - ?) WHERE name = ? AND day = ?"

_SLOW = """
INSERT INTO bucket (name, slow_from, slow_until, slow_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET slow_from = excluded.slow_from, slow_until = excluded.slow_until, slow_at = excluded.slow_at
"""

MOST_AT_ONCE = 1_000
_MAX_NAME = 200
_DAY_MS = 86_400_000
_SLOWED_TO = 0.7
_SLOWEST = 0.1  # a second
_CLIMB, _CLIMB_EVERY_MS = 1.1, 10_000
_CLIMBS_TO = 2.0  # times the rate that was seen: where a bucket without a limit was not throttled up to there, it is free
_SAME_SLOW_MS = 1_000
_CLOCK_STEP_MS = 10_000  # what a stopped worker's `now` may be late by before it looks like a clock set back


class _Bucket(NamedTuple):
    """A bucket as stored; the defaults are one that nobody has used yet."""

    per_second: float | None = None
    per_day: int | None = None
    free_at: float = 0.0
    day: int = 0
    used: int = 0
    slow_from: float | None = None
    slow_until: float | None = None
    slow_at: int | None = None

    def rate(self, now: Instant) -> float | None:
        """The rate in force: the limit, or what was learned while that is lower."""
        learned = self._learned(now)
        known = [rate for rate in (self.per_second, learned) if rate is not None]
        return min(known, default=None)

    def _learned(self, now: Instant) -> float | None:
        if self.slow_from is None or self.slow_until is None or self.slow_at is None:
            return None
        climbs = min(max(0, now - self.slow_at) // _CLIMB_EVERY_MS, 1_000)
        rate = self.slow_from * _CLIMB**climbs
        return rate if rate < (self.per_second or self.slow_until) else None

    def day_at(self, now: Instant) -> int:
        """A clock set back over midnight opens no new day."""
        return max(now // _DAY_MS, self.day)

    def used_up(self, now: Instant) -> UsedUp | None:
        """See ports.rates."""
        day = self.day_at(now)
        if self.per_day is None or self.used_by(day) < self.per_day:
            return None
        return UsedUp(self.per_day, Instant((day + 1) * _DAY_MS))

    def used_by(self, day: int) -> int:
        """Sends counted on `day`."""
        return self.used if day == self.day else 0


class SqliteRates:
    """`ports.rates.Rates` in `rates.db`."""

    def __init__(self, path: Path) -> None:
        self._quick = Database(path, _MIGRATIONS, synchronous="NORMAL", cache_kib=512)
        self._durable = Database(path, _MIGRATIONS, synchronous="FULL", cache_kib=512)

    def close(self) -> None:
        """Close the file."""
        self._durable.close()
        self._quick.close()

    def limit(self, bucket: str, limit: Limit) -> None:
        _check_bucket(bucket)
        if limit.per_second is not None and not (math.isfinite(limit.per_second) and limit.per_second > 0):
            raise Invalid(f"A rate of {limit.per_second} a second is no rate: above 0, or none.")
        if limit.per_day is not None and limit.per_day < 0:
            raise Invalid(f"A limit of {limit.per_day} a day is no limit: 0 or more, or none.")
        with self._durable.write() as connection:
            connection.execute(_LIMIT, (bucket, limit.per_second, limit.per_day))

    def reserve(self, bucket: str, want: int, now: Instant) -> Grant:
        _check_bucket(bucket)
        if not 1 <= want <= MOST_AT_ONCE:
            raise Invalid(f"{want} sends at once are out of range: 1 to {MOST_AT_ONCE}.")
        with self._home_of(bucket).write() as connection:
            known = _get(connection, bucket)
            day = known.day_at(now)
            used = known.used_by(day)
            if (used_up := known.used_up(now)) is not None:
                return Grant(0, used_up.until, 0.0)
            grant, free_at = _place(known, want if known.per_day is None else min(want, known.per_day - used), now)
            if free_at != known.free_at or grant.count:
                connection.execute(_TAKE, (bucket, free_at, day, used + grant.count))
        return grant

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        _check_bucket(bucket)
        if count < 0:
            raise Invalid(f"{count} sends cannot be given back.")
        with self._home_of(bucket).write() as connection:
            connection.execute(_REFUND, (count, bucket, now // _DAY_MS))

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        _check_bucket(bucket)
        if not (math.isfinite(seen_per_second) and seen_per_second >= 0):
            raise Invalid(f"{seen_per_second} a second is no rate.")
        with self._quick.write() as connection:
            known = _get(connection, bucket)
            if known.slow_at is not None and abs(now - known.slow_at) < _SAME_SLOW_MS:
                return
            rate = known.rate(now)
            seen = seen_per_second if rate is None else min(seen_per_second, rate)  # a throttle answer never speeds up
            slowed = max(_SLOWEST, seen * _SLOWED_TO)
            connection.execute(_SLOW, (bucket, slowed, max(seen, slowed) * _CLIMBS_TO, now))

    def current(self, bucket: str, now: Instant) -> float | None:
        _check_bucket(bucket)
        with self._quick.read() as connection:
            return _get(connection, bucket).rate(now)

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        _check_bucket(bucket)
        with self._quick.read() as connection:
            return _get(connection, bucket).used_up(now)

    def _home_of(self, bucket: str) -> Database:
        """How durably this bucket is counted."""
        with self._quick.read() as connection:
            return self._quick if _get(connection, bucket).per_day is None else self._durable


def _get(connection: sqlite3.Connection, bucket: str) -> _Bucket:
    row = connection.execute(_GET, (bucket,)).fetchone()
    return _Bucket() if row is None else _Bucket(*row)


def _place(bucket: _Bucket, want: int, now: Instant) -> tuple[Grant, float]:
    """Where on the bucket's time line `want` sends go, and its next free moment after them."""
    rate = bucket.rate(now)
    if rate is None:
        return Grant(want, now, 0.0), bucket.free_at
    spacing = 1_000 / rate
    horizon = now + HORIZON_MS
    # Nothing is ever taken beyond one send past the horizon, so what is was written before the clock was set back: it does
    # not hold, and what holds instead is stored.
    start = min(max(bucket.free_at, now - BURST_MS), horizon + spacing + _CLOCK_STEP_MS)
    if start > horizon:
        return Grant(0, Instant(math.ceil(start - HORIZON_MS)), spacing), start
    count = min(want, int((horizon - start) / spacing) + 1)
    # The line is kept exactly: rounded times would add up to a lower rate where grants are small.
    return Grant(count, Instant(math.ceil(start)), spacing), start + count * spacing


def _check_bucket(bucket: str) -> None:
    utf8(bucket, "A bucket's name")
    if not 1 <= len(bucket) <= _MAX_NAME:
        raise Invalid(f"A bucket's name has 1 to {_MAX_NAME} characters, not {len(bucket)}.")
