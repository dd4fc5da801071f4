"""Whose turn it is at an endpoint's lane, where processes come and go: one at a time, and what it learned stays for the next.

    #callback-turns / {tenant}/{endpoint}    until when it is somebody's, or rests; how often it failed in a row; when it is woken

Whoever is killed holds up a lane until its turn runs out, and no longer. A lane that rests is in nobody's hands until then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.ledger.deliveries import Lane
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

_TURNS: Final = "#callback-turns"
_KEPT_MS: Final = 2 * 86_400_000


class LaneTurn(NamedTuple):
    """Somebody's."""

    lane: Lane
    version: int
    failures: int
    """Requests that failed in a row, as whoever had it before knew."""
    wakes_at: Instant
    """When a wake is on its way that somebody put; in the past: none is."""


class LaneTurns:
    """Of all lanes."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def take(self, lane: Lane, *, lease_ms: int) -> LaneTurn | None:
        """None: it is somebody else's, or it rests."""
        key, now = _key(lane), self._clock.now()
        item = self._tables.get(key)
        known = {"failures": 0, "wakes": 0, "until": 0} if item is None else item.data
        if known["until"] > now:
            return None
        try:
            version = self._put(lane, {**known, "until": now + lease_ms}, Expect.ABSENT if item is None else item.version)
        except Conflict:  # somebody was first
            return None
        return LaneTurn(lane, version, known["failures"], Instant(known["wakes"]))

    def end(self, turn: LaneTurn, *, failures: int, rests_until: Instant, wakes_at: Instant) -> None:
        """Let the next one have it, from `rests_until` on. One that ran out before is left as it is."""
        with suppress(Conflict):
            self._put(turn.lane, {"failures": failures, "wakes": wakes_at, "until": rests_until}, turn.version)

    def _put(self, lane: Lane, data: dict[str, int], expect: Expect | int) -> int:
        ends = Instant(self._clock.now() + _KEPT_MS)
        (version,) = self._tables.write([Put(_key(lane), data, expect, expires_at=ends)])
        return version


def _key(lane: Lane) -> ItemKey:
    return ItemKey(_TURNS, f"{lane.tenant}/{lane.endpoint}")
