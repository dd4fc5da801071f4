"""Bounces that may pass: a mailbox that is full today may take mail next week. After too many of them within some weeks the
person is left alone for a while.

One record a person, forgotten by itself. It counts messages, not reports: a mail that is reported again has bounced once,
and whoever was killed may say it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.model.shard import Key
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Patience:
    """How many are too many."""

    bounces: int = 5
    """0: never."""
    window_ms: int = 30 * 86_400_000
    """Within so long."""
    hold_ms: int = 14 * 86_400_000
    """For how long nobody writes to them then."""


class SoftBounces:
    """The counts of all tenants' people."""

    def __init__(self, tables: Tables, patience: Patience, clock: Clock) -> None:
        self._tables = tables
        self._patience = patience
        self._clock = clock

    def note(self, tenant: str, key: Key, message: str) -> Instant | None:
        """A message to a person bounced; until when they are not to be written to, or None: not too many yet."""
        patience = self._patience
        if patience.bounces == 0:
            return None
        heard = self._heard(tenant, key, message)
        return Instant(self._clock.now() + patience.hold_ms) if len(heard) >= patience.bounces else None

    def _heard(self, tenant: str, key: Key, message: str) -> dict[str, int]:
        """Messages that bounced in the window, this one among them, and durably so."""
        place = ItemKey(f"{tenant}#soft-bounces", key.hex())
        for _ in range(_TRIES):
            now, item = self._clock.now(), self._tables.get(place)
            known = {} if item is None else item.data["heard"]
            heard = {name: at for name, at in known.items() if at > now - self._patience.window_ms} | {message: now}
            if message in known:
                return heard
            newest = dict(list(heard.items())[-self._patience.bounces :])
            expect = Expect.ABSENT if item is None else item.version
            try:
                self._tables.write([Put(place, {"heard": newest}, expect, Instant(now + self._patience.window_ms))])
            except Conflict:  # somebody noted another since: look again
                continue
            return newest
        raise Conflict(f"the soft bounces of {key.hex()} are being counted by others all the time; try again")
