"""What a provider's "too fast" does: the shared bucket slows down; no recipient fails for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from postroom.clock import Clock
from postroom.errors import Temporary
from postroom.pipeline.sender.off_loop import OffLoop
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.ports.rates import Rates

_WINDOW_S = 2.0
_log = logging.getLogger(__name__)
_QUIET_S = 1.0  # the bucket takes one `slow` a second; more would only be counted as one


class Throttle:
    """Sees every result of one worker's campaign."""

    def __init__(self, rates: Rates, bucket: str, off_loop: OffLoop, clock: Clock, *, workers: int) -> None:
        self._rates = rates
        self._bucket = bucket
        self._off_loop = off_loop
        self._clock = clock
        self._workers = workers
        self._accepted: deque[float] = deque()
        self._quiet_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    def on_result(self, result: Result) -> None:
        """Count what goes through; on a throttle answer tell the bucket, in the background."""
        now = self._clock.monotonic()
        if result.verdict is Verdict.ACCEPTED:
            self._accepted.append(now)
            if len(self._accepted) & 1023 == 0:
                self._forget(now)
        elif result.throttled and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            task = asyncio.create_task(self._slow(self._seen(now)))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def settle(self) -> None:
        """Wait until the bucket knows all."""
        await asyncio.gather(*self._telling)

    async def _slow(self, seen: float) -> None:
        """A bucket that cannot be told now is told by the next throttle answer."""
        try:
            await self._off_loop(self._rates.slow, self._bucket, seen, self._clock.now())
        except Temporary as error:
            _log.warning("%s is not slowed: %s", self._bucket, error)

    def _seen(self, now: float) -> float:
        """Recipients a second of all workers, taking the others to be as fast as this one."""
        self._forget(now)
        return max(len(self._accepted) / _WINDOW_S * self._workers, 0.1)

    def _forget(self, now: float) -> None:
        while self._accepted and self._accepted[0] < now - _WINDOW_S:
            self._accepted.popleft()
