"""Fires timers, passes messages to the scheduler and runs maintenance jobs on one machine, as a process or a worker's thread.

Any number of processes may do it at the same time: each step is safe to repeat. `postroom serve` gives it a process, so that
imports and sending never delay a timer.
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
    """The loop of timers, scheduler messages and maintenance jobs."""

    def __init__(self, container: Container, *, only: CampaignRef | None, stopped: threading.Event) -> None:
        """`only`: handle this campaign alone."""
        self._container = container
        self._maintenance = MaintenanceJobs(container, only=only, stopped=stopped.is_set)
        self._stopped = stopped

    def run(self) -> None:
        """Run until stopped. Raises errors of the stores."""
        container = self._container
        machine = container.stores.on_one_machine("firing timers")
        jobs = [(_Every(job.every_s, container.clock), job) for job in self._maintenance.jobs()]
        while not self._stopped.is_set():
            machine.timers.fire_due(container.clock.now())
            for every, job in jobs:
                if every.due():
                    _do(job)
            if not self._handle_messages():
                self._stopped.wait(_LOOK_S)

    def trim_feed(self) -> None:
        """Delete feed entries that are older than the retention time."""
        self._maintenance.trim_feed()

    def _handle_messages(self) -> bool:
        queues = self._container.queues
        received = queues.receive(scheduler_messages.SCHEDULER_QUEUE, limit=10, lease_s=_NOTE_LEASE_S)
        for item in received:
            if self._maintenance.handle_message(item.body):
                with suppress(LeaseLost):  # another process has it now, and finds the work done
                    queues.delete(scheduler_messages.SCHEDULER_QUEUE, item.receipt)
        return bool(received)


def _do(job: MaintenanceJob) -> None:
    try:
        job.do()
    except PostroomError:
        _log.exception("maintenance.job_failed", job=job.name)


class _Every:
    """Due once in so many seconds, the first time at once."""

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


def run(container: Container) -> None:
    """Run until asked to stop. Raises errors of the stores."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(MaintenanceLoop(container, only=None, stopped=stop.flag).run)

    asyncio.run(supervised(work))


def run_inbox(container: Container, port: int) -> None:
    """Run the built-in inbox until asked to stop."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(container.inbox_server.start, port=port)
        await stop.event.wait()
        await asyncio.to_thread(container.inbox_server.stop)

    asyncio.run(supervised(work))
