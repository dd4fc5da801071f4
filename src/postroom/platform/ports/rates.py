"""Rates: how many sends a provider or a campaign may still make, shared by every worker.

A bucket grants sends as *reservations on a time line*: `reserve` moves the bucket's next free moment forward and
answers from which instant on the granted sends may leave, evenly spaced. So the total never passes the rate, whoever
asks, and what a crashed worker had reserved is simply lost. A grant begins at most `HORIZON_MS` in the future: if the
bucket is taken beyond that, the answer grants nothing and says when to ask again. Unused time is kept for at most
`BURST_MS`.

`slow` is what a provider's throttle answer does: the bucket's rate becomes 0.7 of what was seen (never under one in
ten seconds), and climbs back by a tenth every ten seconds without another `slow`; callers within one second of each
other count as one. A bucket without a limit is limited only while it is slowed. State survives a killed process;
after a power cut the learned slowness may be forgotten, the daily count may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from postroom.clock import Instant

HORIZON_MS = 1_000
BURST_MS = 100


@dataclass(frozen=True, slots=True)
class Limit:
    """What a bucket allows; None: no limit."""

    per_second: float | None = None
    per_day: int | None = None
    """In any UTC day."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`count` sends, the i-th (from 0) not before `at` + i × `spacing_ms`. `count` 0: ask again at `at`."""

    count: int
    at: Instant
    spacing_ms: float


class UsedUp(NamedTuple):
    """A limit a day that leaves nothing more."""

    per_day: int
    until: Instant
    """When the next day begins."""


class Rates(Protocol):
    """See the module's text. Bucket names are up to 200 characters of any kind."""

    def limit(self, bucket: str, limit: Limit) -> None:
        """Set the bucket's limit; what was learned and counted stays."""
        ...

    def reserve(self, bucket: str, want: int, now: Instant) -> Grant:
        """Up to `want` sends (1 to 1,000; else `Invalid`), as many as fit before the horizon, at least one when any does."""
        ...

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        """`count` granted sends were not made: give them back to the daily count."""
        ...

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        """The provider throttled while the caller saw `seen_per_second` go through."""
        ...

    def current(self, bucket: str, now: Instant) -> float | None:
        """The rate in force, recipients a second; None: no limit."""
        ...

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        """Whether the bucket's number for the day is used up; None: it is not, or there is none. Takes nothing."""
        ...
