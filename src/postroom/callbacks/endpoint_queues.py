"""Makes the requests: a lane for each endpoint, so that one that is slow or dead delays no other.

    due in the store → taken under a lease → a request → what became of it, in the store

A lane makes up to sixteen requests at a time; one that failed three times in a row, one alone and with a rest between, until it
is answered well: what it had in its hands it gives back. Where many are slow at the same time and few places are left, a lane has
one, so that each finds one. What was taken and not settled when a process is killed is due again once its lease has run out,
under the same id. What an endpoint that is switched off is owed stays due, for its day: it is told when it is switched on again.

    2xx          delivered
    410          the endpoint is switched off: it says itself that nobody is there
    anything else, and no answer    tried again: after 5 s, 30 s, 2 min, 10 min … 8 h, or when the answer asks (`Retry-After`)
    429, 503 with `Retry-After`     the whole lane rests as long as it asks, up to an hour
    a day after it was made         given up, tried or not; it can be ordered again
    three days without success      the endpoint is switched off
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from postroom.callbacks.endpoint_worker import LOOK_S, MAX_REQUESTS, DueDeliveries, EndpointState, EndpointWorker
from postroom.clock import Clock
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointRef

MAX_PER_TENANT: Final = 200
"""Lanes of one tenant that are at work at a time: each campaign may have its own, and all may be slow."""
_LANES_EVERY_S: Final = 0.5
_IDLE_S: Final = 60.0
"""So long a lane that does nothing keeps its connections."""
_OFF_S: Final = 2.0
"""Between two looks at an endpoint that is switched off."""
_FINISH_S: Final = 5.0


class EndpointQueues:
    """All of them."""

    def __init__(self, deliveries: CallbackDeliveries, work: EndpointWorker, clock: Clock) -> None:
        self._deliveries = deliveries
        self._work = work
        self._clock = clock
        self._lanes: dict[EndpointRef, EndpointState] = {}
        self._names: list[EndpointRef] = []
        self._listed_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped; what is under way then has a moment to be answered. Errors of the stores that do not pass are raised."""
        try:
            while not stop.is_set():
                await self._start_due(everywhere=False)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S)
                self._raise_errors()
        finally:
            self._work.stopping = True
            await self._finish()
            await self._let_go(list(self._lanes.values()))

    async def drain(self) -> None:
        """Make every request that is due now, and return: for tests and benches."""
        while await self._start_due(everywhere=True):
            await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))

    async def _finish(self) -> None:
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FINISH_S)
            for task in late:  # another process makes these requests again
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_due(self, *, everywhere: bool) -> bool:
        """Whether there was anything to do. `everywhere`: in lanes too that were found quiet a moment ago."""
        now = self._clock.monotonic()
        if everywhere or now >= self._listed_until:
            self._names = await asyncio.to_thread(lambda: list(self._deliveries.lanes()))
            self._listed_until = now + _LANES_EVERY_S
            await self._forget(now)
        names = [name for name in self._names if self._may_begin(name, now, everywhere=everywhere)]
        found = await asyncio.to_thread(self._take_due, self._fairly(names))
        for name, due in found.items():
            lane = self._lanes[name]
            lane.task = asyncio.create_task(self._work.work(name, lane, due))
        return bool(found)

    def _fairly(self, names: Sequence[EndpointRef]) -> list[EndpointRef]:
        """As many as there are places for, and of no tenant more than its part."""
        chosen, working = list[EndpointRef](), Counter(name.tenant for name, lane in self._lanes.items() if lane.busy)
        for name in names:
            if len(chosen) >= MAX_REQUESTS - self._work.reserved:
                break
            if working[name.tenant] < MAX_PER_TENANT:
                working[name.tenant] += 1
                chosen.append(name)
        return chosen

    def _may_begin(self, name: EndpointRef, now: float, *, everywhere: bool) -> bool:
        lane = self._lanes.get(name)
        if lane is None:
            return True
        return not lane.busy and (now >= lane.next_look or (everywhere and not lane.fails))

    async def _forget(self, now: float) -> None:
        """Lanes that are no more; and of those that are quiet, their connections."""
        for name in self._lanes.keys() - set(self._names):
            if not self._lanes[name].busy:
                await self._let_go([self._lanes.pop(name)])
        await self._let_go([lane for lane in self._lanes.values() if not lane.busy and now - lane.worked_at > _IDLE_S])

    async def _let_go(self, lanes: Sequence[EndpointState]) -> None:
        for lane in lanes:
            if lane.caller is not None:
                await lane.caller.close()
                lane.caller = None

    def _take_due(self, names: Sequence[EndpointRef]) -> dict[EndpointRef, DueDeliveries]:
        found = {}
        for name in names:
            lane = self._lanes.setdefault(name, EndpointState())
            due = self._work.take(name, alone=lane.fails)
            lane.looked(found=bool(due and due.taken), now=self._clock.monotonic(), pause=_OFF_S if due else 0.0)
            if due and due.taken:
                found[name] = due
        return found

    def _raise_errors(self) -> None:
        for lane in self._lanes.values():
            if lane.task is not None and lane.task.done() and not lane.task.cancelled():
                lane.task.result()
