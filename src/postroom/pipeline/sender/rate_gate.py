"""When the next messages may leave, and what a provider's "too fast" does. Both work on buckets shared with all workers.

`RateGate` asks the provider's bucket and the campaign's own for grants and spreads messages evenly over them.

`ThrottleFeedback` slows the provider's bucket down after a throttle answer; no recipient fails for it. It reports the rate seen
*while sending*: a throttle answer to the very first message, or to a retry hours after the rest, comes in a second in which next
to nothing is sent, and a shared bucket must not be slowed to that. Until a worker has sent for a few seconds it reports the rate
in force. A rate reported too high costs little: each further answer takes 0.3 of the rate in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from postroom.clock import Clock, Instant
from postroom.errors import Temporary
from postroom.model.batch import GROUP_SIZE
from postroom.model.message import Recipient
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.mail.port import Mailer, Result, Verdict
from postroom.platform.ports.rates import Rates, Reservation
from postroom.telemetry.logs import event_logger

_ASK_AGAIN_S = 1.0  # how long a rate is believed: a slowed bucket is noticed within a second
MOMENT_S = 0.5
"""Seconds a group takes to leave, so that the progress of a slow campaign is visible. Default: 0.5 s."""
GRANT = 64
"""Messages reserved at a time, at most: what a crash wastes of the rate."""
GRANTS = 2
"""Grants per group, at least: a transactional message waits behind a campaign's grant for that part of a moment."""
_LONG_S = 60.0  # no rate makes a message wait so long: the daily quota is used up
_TICK_S = 0.005  # messages due within one tick leave together
_LINE = 32  # messages a limited campaign queues at the mailer, so that a stall is not followed by a burst
_log = event_logger(__name__)
_RECENT_S = 2  # whole seconds, and the one that has begun
_STEADY_S = 3  # seconds in which something was accepted; with fewer there is no own rate to report yet
_SECONDS = 30  # how many seconds with an accepted message are kept
_FLOOR = 1.0  # recipients a second and worker: less is idleness, not a rate
_QUIET_S = 1.0  # the bucket takes one `slow` a second; more would only be counted as one


class RateGate:
    """Releases the messages of a group as the buckets allow."""

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
        """`counted`: a bucket has a daily limit, so every message needs a grant, also without a rate."""
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
        """Why nothing may leave for long (the daily quota is used up); empty if it may."""

    async def group_size(self) -> int:
        """How many messages to open at once: as many as leave within `moment_s`, at most `GROUP_SIZE`."""
        limits = [limit for limit in await self._limits() if limit is not None]
        return max(1, min(GROUP_SIZE, round(min(limits) * self._moment_s))) if limits else GROUP_SIZE

    async def release(self, group: Sequence[Recipient], stopping: asyncio.Event) -> AsyncIterator[Sequence[Recipient]]:
        """Yields the group in parts, each when it may leave. Ends early if `stopping` is set."""
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
        """The buckets' rates in force, at most a second old."""
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known = await self._off_loop(self._current)
            self._known_until = now + _ASK_AGAIN_S
        return self._known

    def _current(self) -> list[float | None]:
        return [self._rates.current(bucket, self._clock.now()) for bucket in self._buckets]


def _daily_limit_reached(until: Instant) -> str:
    again = datetime.fromtimestamp(until / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    return f"the provider's daily quota is used up; sending goes on at {again}"


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, or wake when stopping."""
    try:
        await asyncio.wait_for(stopping.wait(), max(seconds, 0.001))
    except TimeoutError:
        return


class ThrottleFeedback:
    """Sees every result of one run."""

    def __init__(self, rates: Rates, bucket: str, threads: ThreadBridge, clock: Clock, *, workers: int) -> None:
        self._rates = rates
        self._bucket = bucket
        self._off_loop = threads
        self._clock = clock
        self._workers = workers
        self._accepted: dict[int, int] = {}
        """Second → messages accepted in it; seconds without any are absent, the oldest is first."""
        self._quiet_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    def on_result(self, result: Result) -> None:
        """Count accepted messages. On a throttle answer slow the bucket, in the background."""
        now = self._clock.monotonic()
        if result.verdict is Verdict.ACCEPTED:
            self._count(int(now))
        elif result.throttled and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            task = asyncio.create_task(self._slow(self._seen(now), is_steady=len(self._accepted) >= _STEADY_S))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def settle(self) -> None:
        """Wait until every report is written."""
        await asyncio.gather(*self._telling)

    async def _slow(self, seen: float, *, is_steady: bool) -> None:
        """If the bucket cannot be written now, the next throttle answer does it."""
        try:
            await self._off_loop(self._tell, seen, is_steady)
        except Temporary as error:
            _log.warning("rate.not_slowed", bucket=self._bucket, reason=str(error))

    def _tell(self, seen: float, is_steady: bool) -> None:
        now = self._clock.now()
        in_force = None if is_steady else self._rates.current(self._bucket, now)
        self._rates.slow(self._bucket, seen if in_force is None else in_force, now)

    def _seen(self, now: float) -> float:
        """Recipients a second of all workers, assuming that the others are as fast as this one."""
        second = int(now)
        recent = sum(self._accepted.get(second - ago, 0) for ago in range(_RECENT_S + 1)) / (_RECENT_S + now - second)
        sending = sum(self._accepted.values()) / max(1, len(self._accepted))
        return max(recent, sending, _FLOOR) * self._workers

    def _count(self, second: int) -> None:
        self._accepted[second] = self._accepted.get(second, 0) + 1
        if len(self._accepted) > _SECONDS:
            del self._accepted[next(iter(self._accepted))]
