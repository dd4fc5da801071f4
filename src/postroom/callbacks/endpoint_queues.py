"""Makes all callback requests of one process, with a queue per endpoint, so that a slow or dead endpoint delays no other.

    due in the store → taken under a lease → request → result stored

An endpoint gets up to 16 requests at a time. After three failures in a row it gets one at a time with a pause in between, until
one succeeds; what was taken for it is given back. If many endpoints are slow and few slots are left, each gets one slot. After a
crash, what was taken and not settled becomes due again when its lease has run out, with the same id. Deliveries of a disabled
endpoint stay due for a day, and are made if it is enabled within that time.

    2xx                             delivered
    410                             the endpoint is disabled
    anything else, or no response   tried again after 5 s, 30 s, 2 min, 10 min … 8 h, or as `Retry-After` asks
    429, 503 with `Retry-After`     all requests to the endpoint rest for that time, up to an hour
    one day after it was created    given up, whether tried or not; it can be redelivered
    three days without success      the endpoint is disabled
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from postroom.callbacks.endpoint_worker import MAX_REQUESTS, POLL_S, DueDeliveries, EndpointState, EndpointWorker
from postroom.clock import Clock
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointRef

MAX_PER_TENANT: Final = 200
"""Endpoints of one tenant that are worked on at a time: each campaign may have its own, and all may be slow."""
_LIST_S: Final = 0.5
_IDLE_S: Final = 60.0
"""An endpoint's connections are closed after this time without requests."""
_DISABLED_POLL_S: Final = 2.0
"""Pause between two polls of a disabled endpoint."""
_FINISH_S: Final = 5.0


class EndpointQueues:
    """The queues of all endpoints, for one process on one machine."""

    def __init__(self, deliveries: CallbackDeliveries, worker: EndpointWorker, clock: Clock) -> None:
        self._deliveries = deliveries
        self._worker = worker
        self._clock = clock
        self._states: dict[EndpointRef, EndpointState] = {}
        self._names: list[EndpointRef] = []
        self._listed_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Run until stopped; requests under way then have 5 s to finish. Raises permanent errors of the stores."""
        try:
            while not stop.is_set():
                await self._start_due(everywhere=False)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_S)
                self._raise_errors()
        finally:
            self._worker.stopping = True
            await self._finish()
            await self._disconnect(list(self._states.values()))

    async def drain(self) -> None:
        """Make every request that is due now, and return: for tests and benches."""
        while await self._start_due(everywhere=True):
            await asyncio.gather(*(state.task for state in self._states.values() if state.task))

    async def _finish(self) -> None:
        tasks = [state.task for state in self._states.values() if state.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FINISH_S)
            for task in late:  # another process makes these requests again
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_due(self, *, everywhere: bool) -> bool:
        """Start a task for each endpoint with due deliveries; returns whether there was one. `everywhere`: poll idle ones too."""
        now = self._clock.monotonic()
        if everywhere or now >= self._listed_until:
            self._names = await asyncio.to_thread(lambda: list(self._deliveries.endpoints()))
            self._listed_until = now + _LIST_S
            await self._forget(now)
        names = [name for name in self._names if self._may_begin(name, now, everywhere=everywhere)]
        found = await asyncio.to_thread(self._take_due, self._fairly(names))
        for name, due in found.items():
            state = self._states[name]
            state.task = asyncio.create_task(self._worker.work(name, state, due))
        return bool(found)

    def _fairly(self, names: Sequence[EndpointRef]) -> list[EndpointRef]:
        """As many endpoints as there are slots, and at most `MAX_PER_TENANT` per tenant."""
        chosen, working = list[EndpointRef](), Counter(name.tenant for name, state in self._states.items() if state.busy)
        for name in names:
            if len(chosen) >= MAX_REQUESTS - self._worker.reserved:
                break
            if working[name.tenant] < MAX_PER_TENANT:
                working[name.tenant] += 1
                chosen.append(name)
        return chosen

    def _may_begin(self, name: EndpointRef, now: float, *, everywhere: bool) -> bool:
        state = self._states.get(name)
        if state is None:
            return True
        return not state.busy and (now >= state.next_poll or (everywhere and not state.failing))

    async def _forget(self, now: float) -> None:
        """Drop endpoints that no longer exist, and close the connections of idle ones."""
        for name in self._states.keys() - set(self._names):
            if not self._states[name].busy:
                await self._disconnect([self._states.pop(name)])
        await self._disconnect([state for state in self._states.values() if not state.busy and now - state.worked_at > _IDLE_S])

    async def _disconnect(self, states: Sequence[EndpointState]) -> None:
        for state in states:
            if state.client is not None:
                await state.client.close()
                state.client = None

    def _take_due(self, names: Sequence[EndpointRef]) -> dict[EndpointRef, DueDeliveries]:
        found = {}
        for name in names:
            state = self._states.setdefault(name, EndpointState())
            due = self._worker.take(name, alone=state.failing)
            pause = _DISABLED_POLL_S if due else 0.0
            state.polled(found=bool(due and due.taken), now=self._clock.monotonic(), pause=pause)
            if due and due.taken:
                found[name] = due
        return found

    def _raise_errors(self) -> None:
        for state in self._states.values():
            if state.task is not None and state.task.done() and not state.task.cancelled():
                state.task.result()
