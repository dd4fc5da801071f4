"""Rates: how many sends a provider or a campaign may still make, shared by every worker.

A bucket grants sends as *reservations on a time line*: `reserve` moves the bucket's next free moment forward and
returns from which instant on the granted sends may leave, evenly spaced. So the total never exceeds the rate, whichever worker
asks, and what a crashed worker had reserved is simply lost. A reservation begins at most `HORIZON_MS` in the future: if the
bucket is taken beyond that, nothing is granted and the result says when to ask again. Unused time is kept for at most
`BURST_MS`.

`slow` records a provider's throttle answer: the bucket's rate becomes 0.7 of the observed rate (never under one in
ten seconds), and rises by a tenth every ten seconds without another `slow`; calls within one second of each
other count as one. A bucket without a limit is limited only while it is slowed. State survives a killed process;
after a power cut the learned rate may be forgotten, the daily count may not.

`Bucket` is the arithmetic: a value that both backends store. Each reads it, calls one of its methods for the next value, and
stores that as one step. A value computed from a bucket that was changed since must not be stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.platform.ports.limits import utf8

HORIZON_MS = 1_000
BURST_MS = 100


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a bucket allows. None: no limit."""

    per_second: float | None = None
    per_day: int | None = None
    """In any UTC day."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """`count` sends, the i-th (from 0) not before `at` + i × `spacing_ms`. `count` 0: ask again at `at`."""

    count: int
    at: Instant
    spacing_ms: float


class UsedUp(NamedTuple):
    """A daily limit that is used up."""

    per_day: int
    until: Instant
    """When the next day begins."""


class Rates(Protocol):
    """All buckets of an installation. Bucket names are up to 200 characters of any kind."""

    def limit(self, bucket: str, limit: RateLimit) -> None:
        """Set the bucket's limit. The learned rate and the daily count stay."""
        ...

    def reserve(self, bucket: str, want: int, now: Instant) -> Reservation:
        """Reserve up to `want` sends (1 to 1,000, else `Invalid`): as many as fit before the horizon, at least one if any
        does."""
        ...

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        """Return `count` granted sends that were not made to the daily count."""
        ...

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        """The provider throttled while the caller saw `seen_per_second` go through."""
        ...

    def current(self, bucket: str, now: Instant) -> float | None:
        """The rate in force, in recipients a second. None: no limit."""
        ...

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        """The daily limit if it is used up, else None. Reserves nothing."""
        ...


MOST_AT_ONCE = 1_000
_MAX_NAME = 200
_DAY_MS = 86_400_000
_SLOWED_TO = 0.7
_SLOWEST = 0.1  # a second
_CLIMB, _CLIMB_EVERY_MS = 1.1, 10_000
_CLIMBS_TO = 2.0  # times the observed rate: a bucket without a limit that was not throttled up to there is free again
_SAME_SLOW_MS = 1_000
_CLOCK_STEP_MS = 10_000  # how late a stopped worker's `now` may be before it looks like a clock that was set back


class Bucket(NamedTuple):
    """A bucket as stored. The defaults are an unused bucket."""

    per_second: float | None = None
    per_day: int | None = None
    free_at: float = 0.0
    """Its next free moment, in milliseconds."""
    day: int = 0
    used: int = 0
    """Sends counted on `day`."""
    slow_from: float | None = None
    """The rate after the last throttle answer. None, as the next two, if there was none."""
    slow_until: float | None = None
    slow_at: int | None = None

    def limited(self, limit: RateLimit) -> Self:
        """The bucket with a new limit. The gap after the last send is computed again, so that no caller waits for an old,
        slower rate."""
        free_at = self.free_at
        if limit.per_second is not None and self.per_second is not None:
            free_at += 1_000 / limit.per_second - 1_000 / self.per_second
        return self._replace(per_second=limit.per_second, per_day=limit.per_day, free_at=free_at)

    def reserved(self, want: int, now: Instant) -> tuple[Reservation, Self]:
        """The reservation for `want` sends, and the bucket after it."""
        if (used_up := self.used_up(now)) is not None:
            return Reservation(0, used_up.until, 0.0), self
        day = self.day_at(now)
        used = self.used_by(day)
        grant, free_at = self._placed(want if self.per_day is None else min(want, self.per_day - used), now)
        if free_at == self.free_at and not grant.count:
            return grant, self
        return grant, self._replace(free_at=free_at, day=day, used=used + grant.count)

    def refunded(self, count: int, now: Instant) -> Self:
        """The bucket with `count` sends fewer today."""
        return self._replace(used=max(0, self.used - count)) if self.day == now // _DAY_MS else self

    def slowed(self, seen_per_second: float, now: Instant) -> Self:
        """The bucket after a throttle answer; unchanged if another came within a second."""
        if self.slow_at is not None and abs(now - self.slow_at) < _SAME_SLOW_MS:
            return self
        rate = self.rate(now)
        seen = seen_per_second if rate is None else min(seen_per_second, rate)  # a throttle answer never speeds up
        slowed = max(_SLOWEST, seen * _SLOWED_TO)
        return self._replace(slow_from=slowed, slow_until=max(seen, slowed) * _CLIMBS_TO, slow_at=now)

    def rate(self, now: Instant) -> float | None:
        """The rate in force: the limit, or the learned rate while that is lower."""
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
        """The current day. A clock set back over midnight does not begin another day."""
        return max(now // _DAY_MS, self.day)

    def used_up(self, now: Instant) -> UsedUp | None:
        """The daily limit if it is used up, else None."""
        day = self.day_at(now)
        if self.per_day is None or self.used_by(day) < self.per_day:
            return None
        return UsedUp(self.per_day, Instant((day + 1) * _DAY_MS))

    def used_by(self, day: int) -> int:
        """Sends counted on `day`."""
        return self.used if day == self.day else 0

    def _placed(self, want: int, now: Instant) -> tuple[Reservation, float]:
        """The reservation on the time line for `want` sends, and the next free moment after it."""
        rate = self.rate(now)
        if rate is None:
            return Reservation(want, now, 0.0), self.free_at
        spacing = 1_000 / rate
        horizon = now + HORIZON_MS
        # A reservation never reaches further than one send past the horizon. A later `free_at` was written before the clock was
        # set back: it is ignored, and the corrected one is stored.
        start = min(max(self.free_at, now - BURST_MS), horizon + spacing + _CLOCK_STEP_MS)
        if start > horizon:
            return Reservation(0, Instant(math.ceil(start - HORIZON_MS)), spacing), start
        count = min(want, int((horizon - start) / spacing) + 1)
        # `free_at` is not rounded: rounded times would add up to a lower rate for small reservations.
        return Reservation(count, Instant(math.ceil(start)), spacing), start + count * spacing


def check_bucket(bucket: str) -> None:
    """Checks a bucket's name."""
    utf8(bucket, "A bucket's name")
    if not 1 <= len(bucket) <= _MAX_NAME:
        raise Invalid(f"A bucket's name has 1 to {_MAX_NAME} characters, not {len(bucket)}.")


def check_limit(limit: RateLimit) -> None:
    """Checks that the rate is above 0 and the daily number not negative."""
    if limit.per_second is not None and not (math.isfinite(limit.per_second) and limit.per_second > 0):
        raise Invalid(f"A rate of {limit.per_second} a second is no rate: above 0, or none.")
    if limit.per_day is not None and limit.per_day < 0:
        raise Invalid(f"A limit of {limit.per_day} a day is no limit: 0 or more, or none.")


def check_want(want: int) -> None:
    """Checks the number of one `reserve`."""
    if not 1 <= want <= MOST_AT_ONCE:
        raise Invalid(f"{want} sends at once are out of range: 1 to {MOST_AT_ONCE}.")


def check_refund(count: int) -> None:
    """Checks the number of one `refund`."""
    if count < 0:
        raise Invalid(f"{count} sends cannot be given back.")


def check_seen(per_second: float) -> None:
    """Checks the observed rate of one `slow`."""
    if not (math.isfinite(per_second) and per_second >= 0):
        raise Invalid(f"{per_second} a second is no rate.")
