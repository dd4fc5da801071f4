"""What a provider's "too fast" does: the shared bucket slows down; no recipient fails for it.

What the bucket is told is the rate seen *while sending*. A throttle answer to the first message, or to one that was tried again
hours after the rest, comes in a second when next to nothing goes through: that is no pace, and a bucket that all campaigns share
must not be slowed down to it. Nor to what a worker has sent in its first moments: until it has a pace of its own to tell, it
tells the rate in force. A rate told too high costs little: each further answer takes 0.3 of the rate in force.
"""

from __future__ import annotations

import asyncio
import logging

from postroom.clock import Clock
from postroom.errors import Temporary
from postroom.pipeline.sender.off_loop import OffLoop
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.ports.rates import Rates

_log = logging.getLogger(__name__)
_RECENT_S = 2  # whole seconds, and the one that has begun
_PACE_S = 3  # in so many seconds something was accepted: before, there is no pace yet
_SECONDS = 30  # of those in which anything was accepted
_FLOOR = 1.0  # recipients a second and worker: less is not a pace but idleness
_QUIET_S = 1.0  # the bucket takes one `slow` a second; more would only be counted as one


class Throttle:
    """Sees every result of one worker's campaign."""

    def __init__(self, rates: Rates, bucket: str, off_loop: OffLoop, clock: Clock, *, workers: int) -> None:
        self._rates = rates
        self._bucket = bucket
        self._off_loop = off_loop
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
