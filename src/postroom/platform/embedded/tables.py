"""`ports.tables` in SQLite: one row for each item, one transaction for each call."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import check_page, cursor_after, parse_cursor
from postroom.platform.ports.tables import (
    Delete,
    Expect,
    Item,
    ItemKey,
    ItemPage,
    Put,
    Write,
    check_item_key,
    check_key_part,
    check_writes,
    writes_json,
)

_GET = """
SELECT data, version, expires_at FROM item
WHERE partition = ? AND sort = ? AND (expires_at IS NULL OR expires_at > ?)
"""

# A fixed number of parameters, so that it is compiled once; the last chunk is padded with its first key.
_AT_ONCE = 500
_EXISTING = f"""
SELECT sort FROM item
WHERE partition = ? AND (expires_at IS NULL OR expires_at > ?) AND sort IN ({", ".join("?" * _AT_ONCE)})
"""

_QUERY = """
SELECT sort, data, version, expires_at FROM item
WHERE partition = ? AND sort >= ? AND sort < ? AND (expires_at IS NULL OR expires_at > ?)
ORDER BY sort {order} LIMIT ?
"""
_FORWARD, _BACKWARD = _QUERY.format(order="ASC"), _QUERY.format(order="DESC")
_VERSION = "SELECT version FROM item WHERE partition = ? AND sort = ? AND (expires_at IS NULL OR expires_at > ?)"
_PUT = "INSERT OR REPLACE INTO item (partition, sort, version, expires_at, data) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM item WHERE partition = ? AND sort = ?"

# In portions, with a write that commits anyway.
_SWEEP = """
DELETE FROM item WHERE (partition, sort) IN
    (SELECT partition, sort FROM item WHERE expires_at <= ? ORDER BY expires_at LIMIT 200)
"""
_SWEEP_EVERY_MS = 10_000
_AFTER_ALL = b"\xff"  # not a byte of UTF-8: above every key with the prefix


class SqliteTables:
    """`ports.tables.Tables` in the control database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._next_sweep = Instant(0)

    def get(self, key: ItemKey) -> Item | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        for key in keys:
            check_item_key(key)
        now = self._clock.now()
        found: dict[ItemKey, Item] = {}
        with self._database.read() as connection:
            for key in keys:
                row = connection.execute(_GET, (key.partition, key.sort.encode(), now)).fetchone()
                if row is not None:
                    found[key] = _item(key, *row)
        return found

    def existing(self, partition: str, sorts: Sequence[str]) -> set[str]:
        check_item_key(ItemKey(partition, "-"))
        wanted = [check_key_part(sort) for sort in sorts]
        now = self._clock.now()
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                chunk = wanted[start : start + _AT_ONCE]
                chunk += chunk[:1] * (_AT_ONCE - len(chunk))
                found.update(sort.decode() for (sort,) in connection.execute(_EXISTING, (partition, now, *chunk)))
        return found

    def query(
        self, partition: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100, reverse: bool = False
    ) -> ItemPage:
        check_item_key(ItemKey(partition, prefix or "-"))
        check_page(limit)
        low, high = prefix.encode(), prefix.encode() + _AFTER_ALL
        if cursor is not None:
            last = parse_cursor(cursor).encode()
            low, high = (low, min(high, last)) if reverse else (max(low, last + b"\x00"), high)
        statement = _BACKWARD if reverse else _FORWARD
        with self._database.read() as connection:
            rows = connection.execute(statement, (partition, low, high, self._clock.now(), limit + 1)).fetchall()
        items = [_item(ItemKey(partition, sort.decode()), *rest) for sort, *rest in rows[:limit]]
        return ItemPage(items, cursor_after(items[-1].key.sort) if len(rows) > limit else None)

    def write(self, writes: Sequence[Write]) -> list[int]:
        check_writes(writes)
        texts = writes_json(writes)
        if not writes:
            return []
        now = self._clock.now()
        with self._database.write() as connection:
            versions = [_apply(connection, write, text, now) for write, text in zip(writes, texts, strict=True)]
            if now >= self._next_sweep:
                connection.execute(_SWEEP, (now,))
                self._next_sweep = Instant(now + _SWEEP_EVERY_MS)
        return versions


def _apply(connection: sqlite3.Connection, write: Write, text: str, now: Instant) -> int:
    """Check the condition and write. `Conflict` rolls back the whole transaction. Keys differ, so order does not matter."""
    place = (write.key.partition, write.key.sort.encode())
    row = connection.execute(_VERSION, (*place, now)).fetchone()
    version = int(row[0]) if row else 0
    if write.expect is not Expect.ANYTHING and version != (0 if write.expect is Expect.ABSENT else write.expect):
        found = f"version {version}" if version else "nothing"
        demand = "nothing" if write.expect is Expect.ABSENT else f"version {write.expect}"
        raise Conflict(f"{write.key.partition}/{write.key.sort}: expected {demand}, found {found}.")
    if isinstance(write, Put):
        connection.execute(_PUT, (*place, version + 1, write.expires_at, text))
        return version + 1
    if isinstance(write, Delete):
        connection.execute(_DELETE, place)
    return 0


def _item(key: ItemKey, data: str, version: int, expires_at: int | None) -> Item:
    return Item(key, json.loads(data), version, None if expires_at is None else Instant(expires_at))
