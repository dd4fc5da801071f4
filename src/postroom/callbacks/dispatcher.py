"""Telling a sender of callbacks that an endpoint is owed something: a queue between those who find out and those who send.

A wake says whose lanes to look at, and nothing else: what is owed stands in the store. So a wake that comes twice, or too early,
costs a look; one that is lost is made good by whoever looks at all lanes each minute.

Makes the requests where processes come and go (functions): for a bounded time, the lanes that somebody was woken for.

    a wake → the lane's turn → what is due, taken, told, settled → the turn ends → anything more by now? → again, or a later wake

A lane is one process's at a time, so that its endpoint is never asked more at once than one process asks; a wake that finds it
in another's hands is done with, since that one looks once more after its turn. How often it failed, and that it rests, stays in
the store for whoever has the next turn. Wakes are put for what is due within a minute; whatever is due later, or was lost with a
process, is found by whoever looks at all lanes each minute (`wake_all`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import msgspec

from postroom.callbacks.endpoint_worker import EndpointState, EndpointWorker
from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, PostroomError
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointLease, EndpointLeases, EndpointRef
from postroom.platform.ports.queues import MAX_PER_CALL, Queues

QUEUE: Final = "callbacks"


_LANES: Final = 50


"""In one item."""


class Wakeups:
    """The way in."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, lanes: Collection[EndpointRef], *, delay_s: int = 0) -> None:
        """Each once; durable when it returns. `delay_s` up to 900."""
        names = sorted(set(lanes))
        bodies = [msgspec.json.encode(names[at : at + _LANES]).decode() for at in range(0, len(names), _LANES)]
        for at in range(0, len(bodies), MAX_PER_CALL):
            self._queues.send(QUEUE, bodies[at : at + MAX_PER_CALL], delay_s=delay_s)


def parse_wakeup(body: str) -> Sequence[EndpointRef]:
    """Whose lanes an item names; `Corrupt`."""
    try:
        return msgspec.json.decode(body, type=list[EndpointRef])
    except msgspec.DecodeError as error:
        raise Corrupt(f"a wake for callbacks cannot be read: {error}") from error


MAX_ENDPOINTS: Final = 100


"""At work at a time: then a lane commonly finds its places."""


_ENDING_S: Final = 20.0


"""How long what is under way may take after the time is over: a request 10 s, and the stores."""


_SOON_MS: Final = 60_000


"""What is due later than this is found by the look at all lanes."""


_LOOKERS: Final = 16


_log = logging.getLogger(__name__)


class WakeAllResult(NamedTuple):
    """What a look at all lanes found."""

    due: int
    """Lanes that were woken."""
    oldest_ms: int
    """How long the longest due has been due."""


class CallbackDispatcher:
    """See the module's text."""

    def __init__(
        self,
        deliveries: CallbackDeliveries,
        turns: EndpointLeases,
        work: Callable[[], EndpointWorker],
        *,
        wakes: Wakeups,
        clock: Clock,
    ) -> None:
        """`work`: a new one for each round."""
        self._deliveries = deliveries
        self._turns = turns
        self._work = work
        self._wakes = wakes
        self._clock = clock

    def wake_all(self) -> WakeAllResult:
        """Wake every lane that is owed something now: for what no wake was put for, or whose wake was lost."""
        now, lanes = self._clock.now(), list(self._deliveries.lanes())
        with ThreadPoolExecutor(_LOOKERS) as pool:
            due_at = list(pool.map(self._deliveries.next_due, lanes))
        late = {lane: now - due for lane, due in zip(lanes, due_at, strict=True) if due is not None and due <= now}
        self._wakes.put(late.keys())
        return WakeAllResult(len(late), max(late.values(), default=0))

    async def run(self, lanes: Collection[EndpointRef], *, seconds: float) -> list[EndpointRef]:
        """Tell what these endpoints are owed, for about so long; whatever is under way then has a moment to be answered. Those
        that could not be worked, an error of the stores say: they are to be tried again."""
        work, ends = self._work(), self._clock.monotonic() + seconds
        places = asyncio.Semaphore(MAX_ENDPOINTS)
        stop = asyncio.get_running_loop().call_later(seconds, _stop, work)

        async def one(lane: EndpointRef) -> bool:
            async with places:
                try:
                    await self._attend(lane, work, ends)
                except PostroomError as error:
                    _log.warning("callback %s waits: %s", lane.endpoint, error)
                    return False
            return True

        try:
            ordered = sorted(set(lanes))
            done = await asyncio.gather(*map(one, ordered))
        finally:
            stop.cancel()
        return [lane for lane, well in zip(ordered, done, strict=True) if not well]

    async def _attend(self, lane: EndpointRef, work: EndpointWorker, ends: float) -> None:
        """Turn after turn, until nothing is due, or it rests, or the time is over."""
        while True:
            lease_ms = round(1000 * (max(0.0, ends - self._clock.monotonic()) + _ENDING_S))
            turn = await asyncio.to_thread(self._turns.take, lane, lease_ms=lease_ms)
            if turn is None:
                return
            status = EndpointState()
            status.failures = turn.failures
            try:
                await self._work_off(lane, work, status, ends)
            finally:
                if status.caller is not None:
                    await status.caller.close()
            rests_ms = self._rests_ms(status)
            await asyncio.to_thread(self._end, turn, status.failures, rests_ms)
            if rests_ms or not await asyncio.to_thread(self._deliveries.is_due, lane):
                return
            if self._clock.monotonic() >= ends:
                await asyncio.to_thread(self._wakes.put, [lane])
                return

    async def _work_off(self, lane: EndpointRef, work: EndpointWorker, status: EndpointState, ends: float) -> None:
        while self._clock.monotonic() < ends and not self._rests_ms(status):
            due = await asyncio.to_thread(work.take, lane, alone=status.fails)
            if due is None or not due.taken:
                if due is not None:  # it is switched off: what it is owed waits
                    status.looked(found=False, now=self._clock.monotonic(), pause=_SOON_MS / 1000)
                return
            await work.work(lane, status, due)

    def _rests_ms(self, status: EndpointState) -> int:
        return round(1000 * max(0.0, status.next_look - self._clock.monotonic()))

    def _end(self, turn: EndpointLease, failures: int, rests_ms: int) -> None:
        """The wake first: a kill in between has it put twice."""
        now = self._clock.now()
        rests_until, due = Instant(now + rests_ms), self._deliveries.next_due(turn.lane)
        wakes_at = turn.wakes_at
        if due is not None:
            next_at = Instant(max(due, rests_until))
            is_on_its_way = now < wakes_at <= next_at
            if not is_on_its_way and now < next_at <= now + _SOON_MS:
                self._wakes.put([turn.lane], delay_s=-((now - next_at) // 1000))
                wakes_at = next_at
        self._turns.end(turn, failures=failures, rests_until=rests_until, wakes_at=wakes_at)


def _stop(work: EndpointWorker) -> None:
    work.stopping = True
