"""When the next messages may leave: the provider's bucket and the campaign's own, shared with all workers.

What a provider's "too fast" does: the shared bucket slows down; no recipient fails for it.

What the bucket is told is the rate seen *while sending*. A throttle answer to the first message, or to one that was tried again
hours after the rest, comes in a second when next to nothing goes through: that is no pace, and a bucket that all campaigns share
must not be slowed down to it. Nor to what a worker has sent in its first moments: until it has a pace of its own to tell, it
tells the rate in force. A rate told too high costs little: each further answer takes 0.3 of the rate in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from postroom.clock import Clock, Instant
from postroom.errors import Temporary
from postroom.model.batch import GROUP_SIZE
from postroom.model.message import Recipient
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.mail.port import Mailer, Result, Verdict
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


class RateGate:
    """Yields groups' messages as the buckets allow."""

    def __init__(
        self,
        rates: Rates,
        buckets: Sequence[str],
        threads: ThreadBridge,
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
        self._off_loop = threads
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
        self.waits = _daily_limit_reached(until) if seconds > _LONG_S else ""
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


def _daily_limit_reached(until: Instant) -> str:
    again = datetime.fromtimestamp(until / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    return f"the provider's number of recipients for today is used up; it goes on at {again}"


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, or wake when stopping."""
    try:
        await asyncio.wait_for(stopping.wait(), max(seconds, 0.001))
    except TimeoutError:
        return


_log = logging.getLogger(__name__)


_RECENT_S = 2  # whole seconds, and the one that has begun


_PACE_S = 3  # in so many seconds something was accepted: before, there is no pace yet


_SECONDS = 30  # of those in which anything was accepted


_FLOOR = 1.0  # recipients a second and worker: less is not a pace but idleness


_QUIET_S = 1.0  # the bucket takes one `slow` a second; more would only be counted as one


class ThrottleFeedback:
    """Sees every result of one worker's campaign."""

    def __init__(self, rates: Rates, bucket: str, threads: ThreadBridge, clock: Clock, *, workers: int) -> None:
        self._rates = rates
        self._bucket = bucket
        self._off_loop = threads
        self._clock = clock
        self._workers = workers
        self._accepted: dict[int, int] = {}
        """Second → how many were accepted in it; those without any are absent, the oldest is first."""
        self._quiet_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    def on_result(self, result: Result) -> None:
        """Count what goes through; on a throttle answer tell the bucket, in the background."""
        now = self._clock.monotonic()
        if result.verdict is Verdict.ACCEPTED:
            self._count(int(now))
        elif result.throttled and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            task = asyncio.create_task(self._slow(self._seen(now), has_pace=len(self._accepted) >= _PACE_S))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def settle(self) -> None:
        """Wait until the bucket knows all."""
        await asyncio.gather(*self._telling)

    async def _slow(self, seen: float, *, has_pace: bool) -> None:
        """A bucket that cannot be told now is told by the next throttle answer."""
        try:
            await self._off_loop(self._tell, seen, has_pace)
        except Temporary as error:
            _log.warning("%s is not slowed: %s", self._bucket, error)

    def _tell(self, seen: float, has_pace: bool) -> None:
        now = self._clock.now()
        in_force = None if has_pace else self._rates.current(self._bucket, now)
        self._rates.slow(self._bucket, seen if in_force is None else in_force, now)

    def _seen(self, now: float) -> float:
        """Recipients a second of all workers, taking the others to be as fast as this one."""
        second = int(now)
        recent = sum(self._accepted.get(second - ago, 0) for ago in range(_RECENT_S + 1)) / (_RECENT_S + now - second)
        sending = sum(self._accepted.values()) / max(1, len(self._accepted))
        return max(recent, sending, _FLOOR) * self._workers

    def _count(self, second: int) -> None:
        self._accepted[second] = self._accepted.get(second, 0) + 1
        if len(self._accepted) > _SECONDS:
            del self._accepted[next(iter(self._accepted))]
