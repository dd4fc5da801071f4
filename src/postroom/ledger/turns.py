"""One at a time: a tenant's long work that two must not do at once, whichever processes they are in.

A turn is an item that expires: whoever was killed while he had it holds up the others for two minutes at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables

TURN_MS = 120_000


class Turn:
    """Somebody's."""

    def __init__(self, tables: Tables, clock: Clock, key: ItemKey) -> None:
        """`Conflict`: it is another's."""
        self._tables = tables
        self._clock = clock
        self._key = key
        self._until = Instant(clock.now() + TURN_MS)
        try:
            (self._version,) = tables.write([Put(key, {}, Expect.ABSENT, self._until)])
        except Conflict as error:
            raise Conflict("the same work is under way, or whoever did it died just now: try again in two minutes") from error

    def keep(self) -> None:
        """To be called every minute at least; often is harmless. `Conflict`: it was too late, and is another's."""
        now = self._clock.now()
        if self._until - now > TURN_MS * 2 // 3:
            return
        self._until = Instant(now + TURN_MS)
        (self._version,) = self._tables.write([Put(self._key, {}, self._version, self._until)])

    def end(self) -> None:
        """Let the next one begin."""
        with suppress(Conflict):  # it had run out
            self._tables.write([Delete(self._key, self._version)])


@contextmanager
def turn(tables: Tables, clock: Clock, *, tenant: str, work: str) -> Iterator[Turn]:
    """Do the tenant's `work` alone. `Conflict`: somebody else does."""
    taken = Turn(tables, clock, ItemKey(f"{tenant}#turns", work))
    try:
        yield taken
    finally:
        taken.end()
