"""Makes callback requests where processes come and go (Lambda functions): for a bounded time, for the endpoints it is woken for.

    wakeup → endpoint lease → due deliveries: taken, sent, settled → lease released → more due? → again, or a later wakeup

- One process at a time works for an endpoint, so that the endpoint never gets more concurrent requests than one process makes. A
  wakeup that finds it leased is done: the holder checks for due deliveries once more after it releases the lease.
- The number of failures and the pause are stored with the lease, for the next holder.
- A wakeup only names endpoints; what is due is in the store. One that comes twice or too early costs a look-up.
- Wakeups are queued for what becomes due within a minute. What becomes due later, or was lost with a process, is found by
  `wake_all`, which must run each minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import msgspec

from postroom.callbacks.endpoint_worker import EndpointState, EndpointWorker
from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, PostroomError
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointLease, EndpointLeases, EndpointRef
from postroom.platform.ports.queues import MAX_PER_CALL, Queues
from postroom.telemetry.logs import event_logger

QUEUE: Final = "callbacks"
MAX_ENDPOINTS: Final = 100
"""Endpoints worked on at a time: few enough that each usually gets its slots."""
_PER_WAKEUP: Final = 50
"""Endpoints named in one queue item."""
_ENDING_S: Final = 20.0
"""How long requests under way may take after the time is over: 10 s for a request, and the stores."""
_SOON_MS: Final = 60_000
"""What is due later than this is left to `wake_all`."""
_THREADS: Final = 16
_log = event_logger(__name__)


class Wakeups:
    """Queues wakeups: tells a dispatcher which endpoints have something due."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, endpoints: Collection[EndpointRef], *, delay_s: int = 0) -> None:
        """Queue each endpoint once; durable when it returns. `delay_s`: at most 900."""
        names = sorted(set(endpoints))
        bodies = [msgspec.json.encode(names[at : at + _PER_WAKEUP]).decode() for at in range(0, len(names), _PER_WAKEUP)]
        for at in range(0, len(bodies), MAX_PER_CALL):
            self._queues.send(QUEUE, bodies[at : at + MAX_PER_CALL], delay_s=delay_s)


def parse_wakeup(body: str) -> Sequence[EndpointRef]:
    """The endpoints that a queue item names. Raises `Corrupt`."""
    try:
        return msgspec.json.decode(body, type=list[EndpointRef])
    except msgspec.DecodeError as error:
        raise Corrupt(f"a wakeup for callbacks cannot be read: {error}") from error


class WakeAllResult(NamedTuple):
    """What `wake_all` found."""

    due: int
    """Endpoints that were woken."""
    oldest_ms: int
    """How long the oldest due delivery has been due."""


class CallbackDispatcher:
    """Makes due requests of given endpoints for a bounded time."""

    def __init__(
        self,
        deliveries: CallbackDeliveries,
        leases: EndpointLeases,
        new_worker: Callable[[], EndpointWorker],
        *,
        wakeups: Wakeups,
        clock: Clock,
    ) -> None:
        """`new_worker` is called once per run."""
        self._deliveries = deliveries
        self._leases = leases
        self._new_worker = new_worker
        self._wakeups = wakeups
        self._clock = clock

    def wake_all(self) -> WakeAllResult:
        """Wake every endpoint that has something due now: catches what no wakeup was queued for, and lost wakeups."""
        now, lanes = self._clock.now(), list(self._deliveries.endpoints())
        with ThreadPoolExecutor(_THREADS) as pool:
            due_at = list(pool.map(self._deliveries.next_due, lanes))
        late = {lane: now - due for lane, due in zip(lanes, due_at, strict=True) if due is not None and due <= now}
        self._wakeups.put(late.keys())
        return WakeAllResult(len(late), max(late.values(), default=0))

    async def run(self, endpoints: Collection[EndpointRef], *, seconds: float) -> list[EndpointRef]:
        """Make the due requests of these endpoints for about `seconds`; requests under way then have some time to finish.

        Returns the endpoints that failed with an error of the stores and must be tried again.
        """
        worker, ends = self._new_worker(), self._clock.monotonic() + seconds
        slots = asyncio.Semaphore(MAX_ENDPOINTS)
        stop = asyncio.get_running_loop().call_later(seconds, _stop, worker)

        async def one(lane: EndpointRef) -> bool:
            async with slots:
                try:
                    await self._serve(lane, worker, ends)
                except PostroomError as error:
                    _log.warning("callback.deferred", callback=lane.endpoint, tenant=lane.tenant, reason=str(error))
                    return False
            return True

        try:
            ordered = sorted(set(endpoints))
            done = await asyncio.gather(*map(one, ordered))
        finally:
            stop.cancel()
        return [lane for lane, ok in zip(ordered, done, strict=True) if not ok]

    async def _serve(self, lane: EndpointRef, worker: EndpointWorker, ends: float) -> None:
        """Lease after lease, until nothing is due, the endpoint rests, or the time is over."""
        while True:
            lease_ms = round(1000 * (max(0.0, ends - self._clock.monotonic()) + _ENDING_S))
            lease = await asyncio.to_thread(self._leases.take, lane, lease_ms=lease_ms)
            if lease is None:
                return
            state = EndpointState()
            state.failures = lease.failures
            try:
                await self._work_off(lane, worker, state, ends)
            finally:
                if state.client is not None:
                    await state.client.close()
            rests_ms = self._rests_ms(state)
            await asyncio.to_thread(self._release, lease, state.failures, rests_ms)
            if rests_ms or not await asyncio.to_thread(self._deliveries.is_due, lane):
                return
            if self._clock.monotonic() >= ends:
                await asyncio.to_thread(self._wakeups.put, [lane])
                return

    async def _work_off(self, lane: EndpointRef, worker: EndpointWorker, state: EndpointState, ends: float) -> None:
        while self._clock.monotonic() < ends and not self._rests_ms(state):
            due = await asyncio.to_thread(worker.take, lane, alone=state.failing)
            if due is None or not due.taken:
                if due is not None:  # the endpoint is disabled: its deliveries wait
                    state.polled(found=False, now=self._clock.monotonic(), pause=_SOON_MS / 1000)
                return
            await worker.work(lane, state, due)

    def _rests_ms(self, state: EndpointState) -> int:
        return round(1000 * max(0.0, state.next_poll - self._clock.monotonic()))

    def _release(self, lease: EndpointLease, failures: int, rests_ms: int) -> None:
        """Queues the next wakeup before it releases the lease: a crash in between queues it twice."""
        now = self._clock.now()
        rests_until, due = Instant(now + rests_ms), self._deliveries.next_due(lease.ref)
        wakes_at = lease.wakes_at
        if due is not None:
            next_at = Instant(max(due, rests_until))
            is_queued = now < wakes_at <= next_at
            if not is_queued and now < next_at <= now + _SOON_MS:
                self._wakeups.put([lease.ref], delay_s=-((now - next_at) // 1000))
                wakes_at = next_at
        self._leases.end(lease, failures=failures, rests_until=rests_until, wakes_at=wakes_at)


def _stop(worker: EndpointWorker) -> None:
    worker.stopping = True
