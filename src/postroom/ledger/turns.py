"""One at a time: a tenant's long work that two must not do at once, whichever processes they are in.

Whoever was killed while he had the turn holds up the others for two minutes at most. The record of a turn stays, free, when it
ends: its versions only rise, so somebody who comes to life too late cannot take his old turn for the present one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from postroom.clock import Clock
from postroom.errors import Conflict
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

TURN_MS = 120_000
_TAKEN = "the same work is under way, or whoever did it died just now: try again in two minutes"


class Turn:
    """Somebody's."""

    def __init__(self, tables: Tables, clock: Clock, key: ItemKey) -> None:
        """`Conflict`: it is another's."""
        self._tables = tables
        self._clock = clock
        self._key = key
        item = tables.get(key)
        if item is not None and item.data["until"] > clock.now():
            raise Conflict(_TAKEN)
        self._set(clock.now() + TURN_MS, Expect.ABSENT if item is None else item.version)

    def keep(self) -> None:
        """To be called every minute at least; often is harmless. `Conflict`: it was too late, and is another's."""
        now = self._clock.now()
        if self._until - now <= TURN_MS * 2 // 3:
            self._set(now + TURN_MS, self._version)

    def end(self) -> None:
        """Let the next one begin."""
        with suppress(Conflict):  # it had run out, and is another's
            self._set(0, self._version)

    def _set(self, until: int, expect: Expect | int) -> None:
        try:
            (self._version,) = self._tables.write([Put(self._key, {"until": until}, expect)])
        except Conflict as error:
            raise Conflict(_TAKEN) from error
        self._until = until


@contextmanager
def turn(tables: Tables, clock: Clock, *, tenant: str, work: str) -> Iterator[Turn]:
    """Do the tenant's `work` alone. `Conflict`: somebody else does."""
    taken = Turn(tables, clock, ItemKey(f"{tenant}#turns", work))
    try:
        yield taken
    finally:
        taken.end()
