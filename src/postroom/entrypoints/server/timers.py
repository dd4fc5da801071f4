"""Who does the chores on one machine: fires timers, hands notes to the scheduler, keeps house.

Any number of processes may do it at the same time; each step is safe to repeat.

The process that does a server's chores, and nothing else: no import and no sending ever delays a timer.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from postroom.clock import Clock
from postroom.entrypoints.maintenance import MaintenanceJob, MaintenanceJobs
from postroom.entrypoints.server.process import Stop, supervised
from postroom.errors import LeaseLost, PostroomError
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

_LOOK_S = 0.05
_NOTE_LEASE_S = 5
_log = event_logger(__name__)


class MaintenanceLoop:
    """In a thread of a worker, or of a process of their own."""

    def __init__(self, postroom: Container, *, only: CampaignRef | None, stopped: threading.Event) -> None:
        """`only`: look after one campaign alone."""
        self._postroom = postroom
        self._maintenance = MaintenanceJobs(postroom, only=only, stopped=stopped.is_set)
        self._stopped = stopped

    def run(self) -> None:
        """Until stopped. Errors of the stores are raised."""
        postroom = self._postroom
        machine = postroom.stores.on_one_machine("firing timers")
        jobs = [(_Every(job.every_s, postroom.clock), job) for job in self._maintenance.jobs()]
        while not self._stopped.is_set():
            machine.timers.fire_due(postroom.clock.now())
            for every, job in jobs:
                if every.due():
                    _do(job)
            if not self._handle_messages():
                self._stopped.wait(_LOOK_S)

    def trim_feed(self) -> None:
        """Forget what every reader of the feed has had time to see."""
        self._maintenance.trim_feed()

    def _handle_messages(self) -> bool:
        queues = self._postroom.queues
        received = queues.receive(scheduler_messages.SCHEDULER_QUEUE, limit=10, lease_s=_NOTE_LEASE_S)
        for item in received:
            if self._maintenance.handle_message(item.body):
                with suppress(LeaseLost):  # somebody else has it now, and finds the work done
                    queues.delete(scheduler_messages.SCHEDULER_QUEUE, item.receipt)
        return bool(received)


def _do(job: MaintenanceJob) -> None:
    try:
        job.do()
    except PostroomError:
        _log.exception("maintenance.job_failed", job=job.name)


class _Every:
    """True once in so many seconds, the first time at once."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock.monotonic()

    def due(self) -> bool:
        now = self._clock.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


def run(postroom: Container) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(MaintenanceLoop(postroom, only=None, stopped=stop.flag).run)

    asyncio.run(supervised(work))


def run_inbox(postroom: Container, port: int) -> None:
    """The built-in inbox, until told to stop."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(postroom.inbox_server.start, port=port)
        await stop.event.wait()
        await asyncio.to_thread(postroom.inbox_server.stop)

    asyncio.run(supervised(work))
