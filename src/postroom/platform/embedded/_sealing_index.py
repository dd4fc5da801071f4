"""The wrapped data keys in the index of objects: wrapped again when there is a new master key.

Killed at any moment, what was wrapped again is, some hundreds at a time, and the next call goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from postroom.errors import Corrupt
from postroom.platform.embedded._sealed import Sealing
from postroom.platform.embedded._sqlite import Database

MIGRATION = """
-- The wrapped data key of each version whose content is encrypted.
CREATE TABLE sealing (
    version INTEGER PRIMARY KEY,
    wrapped TEXT    NOT NULL
) STRICT;

CREATE TRIGGER version_gone AFTER DELETE ON version BEGIN DELETE FROM sealing WHERE version = OLD.id; END;
"""

_AFTER = """
SELECT sealing.version, key, wrapped FROM sealing JOIN version ON version.id = sealing.version
WHERE sealing.version > ? ORDER BY sealing.version LIMIT 500
"""

# Only the wrapping that was read; a version that was purged meanwhile stays gone.
_REWRAP = "UPDATE sealing SET wrapped = ? WHERE version = ? AND wrapped = ?"


class _Wrapping(NamedTuple):
    """A version's."""

    version: int
    key: str
    wrapped: str


def reseal(database: Database, sealing: Sealing) -> tuple[int, int]:
    """Wrap every data key under the newest master key: how many were, and how many cannot be."""
    done = left = after = 0
    while batch := _after(database, after):
        after = batch[-1].version
        old = [wrapping for wrapping in batch if not sealing.is_current(wrapping.wrapped)]
        new = [pair for wrapping in old if (pair := _rewrapped(sealing, wrapping)) is not None]
        left += len(old) - len(new)
        if new:
            with database.write() as connection:
                connection.executemany(_REWRAP, new)
            done += len(new)
    return done, left


def _after(database: Database, version: int) -> list[_Wrapping]:
    with database.read() as connection:
        return [_Wrapping(*row) for row in connection.execute(_AFTER, (version,))]


def _rewrapped(sealing: Sealing, old: _Wrapping) -> tuple[str, int, str] | None:
    try:
        return sealing.rewrap(old.key, old.wrapped), old.version, old.wrapped
    except Corrupt:
        return None
