"""When the next messages may leave: the provider's bucket and the campaign's own, shared with all workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from postroom.clock import Clock, Instant
from postroom.model.batch import GROUP_SIZE
from postroom.model.message import Recipient
from postroom.pipeline.sender.off_loop import OffLoop
from postroom.platform.mail.port import Mailer
from postroom.platform.ports.rates import Rates, Reservation

_ASK_AGAIN_S = 1.0  # how long a rate is believed: a slowed bucket is noticed within a second
MOMENT_S = 0.5
"""How long a group takes to leave, so that a slow campaign is seen to move."""
GRANT = 64
"""Reserved at a time, at most: what a crash wastes of the rate."""
GRANTS = 2
"""Of a group, at the least: how long a single message waits behind a campaign's grant is that part of the moment."""
_LONG_S = 60.0  # no rate makes anybody wait so long
_TICK_S = 0.005  # messages due within one tick leave together
_LINE = 32  # a limited campaign keeps the mailer's line this short, so that a stall is not followed by a burst


class Pace:
    """Yields groups' messages as the buckets allow."""

    def __init__(
        self,
        rates: Rates,
        buckets: Sequence[str],
        off_loop: OffLoop,
        clock: Clock,
        mailer: Mailer,
        *,
        counted: bool = False,
        moment_s: float = MOMENT_S,
    ) -> None:
        """`counted`: a bucket has a limit a day, so that every send is to be granted however fast."""
        self._rates = rates
        self._counted = counted
        self._buckets = buckets
        self._off_loop = off_loop
        self._clock = clock
        self._mailer = mailer
        self._moment_s = moment_s
        self._known: list[float | None] = []
        self._known_until = 0.0
        self.waits = ""
        """Why nothing may leave for long: a limit a day is used up. Empty: it may."""

    async def group_size(self) -> int:
        """How many messages to open at once: as many as leave within a moment, so that a slow campaign is seen to move."""
        limits = [limit for limit in await self._limits() if limit is not None]
        return max(1, min(GROUP_SIZE, round(min(limits) * self._moment_s))) if limits else GROUP_SIZE

    async def release(self, group: Sequence[Recipient], stopping: asyncio.Event) -> AsyncIterator[Sequence[Recipient]]:
        """The group in parts, each when it may leave; ends early when `stopping` is set."""
        limits = [limit for limit in await self._limits() if limit is not None]
        if not limits and not self._counted:
            yield group
            return
        most = min(GRANT, max(1, round(min(limits) * self._moment_s / GRANTS))) if limits else GRANT
        left = list(group)
        while left and not stopping.is_set():
            if self._mailer.waiting > _LINE:
                await _pause(_TICK_S * 4, stopping)
                continue
            grant = await self._off_loop(self._reserve, min(len(left), most))
            taken, left = left[: grant.count], left[grant.count :]
            if not taken:
                await self._wait(grant.at, stopping)
            async for part in self._spread(taken, grant, stopping):
                yield part

    async def _spread(
        self, taken: list[Recipient], grant: Reservation, stopping: asyncio.Event
    ) -> AsyncIterator[Sequence[Recipient]]:
        sent = 0
        while sent < len(taken) and not stopping.is_set():
            ahead_ms = self._clock.now() + _TICK_S * 1000 - grant.at
            ready = len(taken) if grant.spacing_ms <= 0 else int(ahead_ms / grant.spacing_ms) + 1 if ahead_ms >= 0 else 0
            if ready > sent:
                yield taken[sent:ready]
                sent = min(ready, len(taken))
            else:
                await _pause((grant.at + sent * grant.spacing_ms - self._clock.now()) / 1000, stopping)
        if sent < len(taken):
            await self._off_loop(self._refund, len(taken) - sent)

    async def _wait(self, until: Instant, stopping: asyncio.Event) -> None:
        seconds = (until - self._clock.now()) / 1000
        self.waits = _used_up(until) if seconds > _LONG_S else ""
        await _pause(seconds, stopping)
        self.waits = ""

    def _reserve(self, want: int) -> Reservation:
        """One grant from all buckets: the latest start, the widest spacing, the fewest messages."""
        now = self._clock.now()
        count, at, spacing = want, now, 0.0
        taken: list[tuple[str, int]] = []
        for bucket in self._buckets:
            grant = self._rates.reserve(bucket, count, now)
            taken.append((bucket, grant.count))
            count, at, spacing = min(count, grant.count), max(at, grant.at), max(spacing, grant.spacing_ms)
            if not count:
                break
        for bucket, granted in taken:
            if granted > count:
                self._rates.refund(bucket, granted - count, now)
        return Reservation(count, Instant(at), spacing)

    def _refund(self, count: int) -> None:
        for bucket in self._buckets:
            self._rates.refund(bucket, count, self._clock.now())

    async def _limits(self) -> list[float | None]:
        """The buckets' rates in force, as known a moment ago."""
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known = await self._off_loop(self._current)
            self._known_until = now + _ASK_AGAIN_S
        return self._known

    def _current(self) -> list[float | None]:
        return [self._rates.current(bucket, self._clock.now()) for bucket in self._buckets]


def _used_up(until: Instant) -> str:
    again = datetime.fromtimestamp(until / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    return f"the provider's number of recipients for today is used up; it goes on at {again}"


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, or wake when stopping."""
    try:
        await asyncio.wait_for(stopping.wait(), max(seconds, 0.001))
    except TimeoutError:
        return
