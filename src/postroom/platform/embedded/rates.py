"""`ports.rates` in SQLite: one row for each bucket, in its own file so that no send waits for a campaign.

The file is not synced at each reservation: a power cut may lose the last seconds, which only leaves the time line free. Buckets
with a daily limit are synced: their count must survive, and such limits belong to slow providers.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from postroom.clock import Instant
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.rates import (
    Bucket,
    RateLimit,
    Reservation,
    UsedUp,
    check_bucket,
    check_limit,
    check_refund,
    check_seen,
    check_want,
)

_MIGRATIONS = (
    """
    -- `free_at`: the bucket's next free moment, in milliseconds. `slow_*`: set by the last throttle answer.
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
_PUT = """
INSERT OR REPLACE INTO bucket (name, per_second, per_day, free_at, day, used, slow_from, slow_until, slow_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class SqliteRates:
    """`ports.rates.Rates` in `rates.db`."""

    def __init__(self, path: Path) -> None:
        self._quick = Database(path, _MIGRATIONS, synchronous="NORMAL", cache_kib=512)
        self._durable = Database(path, _MIGRATIONS, synchronous="FULL", cache_kib=512)

    def close(self) -> None:
        """Close the file."""
        self._durable.close()
        self._quick.close()

    def limit(self, bucket: str, limit: RateLimit) -> None:
        check_bucket(bucket)
        check_limit(limit)
        with self._durable.write() as connection:
            known = _get(connection, bucket)
            _put(connection, bucket, known, known.limited(limit))

    def reserve(self, bucket: str, want: int, now: Instant) -> Reservation:
        check_bucket(bucket)
        check_want(want)
        with self._database_of(bucket).write() as connection:
            known = _get(connection, bucket)
            grant, after = known.reserved(want, now)
            _put(connection, bucket, known, after)
        return grant

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        check_bucket(bucket)
        check_refund(count)
        with self._database_of(bucket).write() as connection:
            known = _get(connection, bucket)
            _put(connection, bucket, known, known.refunded(count, now))

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        check_bucket(bucket)
        check_seen(seen_per_second)
        with self._quick.write() as connection:
            known = _get(connection, bucket)
            _put(connection, bucket, known, known.slowed(seen_per_second, now))

    def current(self, bucket: str, now: Instant) -> float | None:
        check_bucket(bucket)
        with self._quick.read() as connection:
            return _get(connection, bucket).rate(now)

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        check_bucket(bucket)
        with self._quick.read() as connection:
            return _get(connection, bucket).used_up(now)

    def _database_of(self, bucket: str) -> Database:
        """The connection with the durability that this bucket needs."""
        with self._quick.read() as connection:
            return self._quick if _get(connection, bucket).per_day is None else self._durable


def _get(connection: sqlite3.Connection, bucket: str) -> Bucket:
    row = connection.execute(_GET, (bucket,)).fetchone()
    return Bucket() if row is None else Bucket(*row)


def _put(connection: sqlite3.Connection, name: str, known: Bucket, after: Bucket) -> None:
    """Store the bucket, in the transaction that read it."""
    if after != known:
        connection.execute(_PUT, (name, *after))
