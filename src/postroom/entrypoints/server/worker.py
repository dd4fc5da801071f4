"""A worker process: imports, sends, and runs maintenance unless another process does. It stops when asked, or with its campaign.

Its work is found in the stores and claimed by lease, so any number of workers may run, and a killed one is simply replaced. Asked
to stop, it starts no new sends and drains those in flight for a bounded time. Each kind of workflow has its own thread: a handler
computes for long, and none waits for another.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from functools import partial

import uvloop

from postroom.entrypoints.server.process import STOPPED, Stop, supervised
from postroom.entrypoints.server.send_loop import SendLoop
from postroom.entrypoints.server.timers import MaintenanceLoop
from postroom.errors import Conflict, Permanent
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.platform.ports.workflows import Again, Done, Handler, HandlerCall
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE
from postroom.wiring import Container

_LOOK_S = 0.05


class WorkflowLoop:
    """Carries out executions of one workflow, one at a time, each under a lease."""

    def __init__(
        self, container: Container, workflow: str, handler: Handler, *, owner: str, group: str, only: str | None = None
    ) -> None:
        """`group`: the journal that shows which workers are alive. `only`: carry out this execution alone."""
        self._container = container
        self._workflows = container.stores.on_one_machine("a worker").workflows
        self._workflow = workflow
        self._handler = handler
        self._owner = owner
        self._group = group
        self._only = only
        self._lease_ms = round(container.settings.lease * 1000)

    def run(self, stopped: threading.Event) -> None:
        """Run until stopped. Raises errors of the stores."""
        while not stopped.is_set():
            if not self.once():
                stopped.wait(_LOOK_S)

    def once(self) -> bool:
        """Carry out one due execution; return False if there was none."""
        return self._workflows.run_due(
            self._workflow,
            self._handler,
            self._owner,
            lease_ms=self._lease_ms,
            dead=self._container.journals.dead(self._group),
            only=self._only,
        )


def import_handler(container: Container, stopped: threading.Event) -> Handler:
    """Return the handler of imports: it imports until done, or `stopped` at a checkpoint."""

    def handle(call: HandlerCall) -> Done | Again:
        ref = scheduler_messages.parse_ref(call.execution.input)
        try:
            container.splitter.run(ref, alive=lambda: call.alive() and not stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # a repeated import would fail the same way
            campaign = container.records.get(ref)
            if campaign.status is CampaignStatus.IMPORTING:
                container.records.transition(campaign, CampaignStatus.FAILED, reason=str(error))
            raise
        state = container.records.get(ref).status
        if state is CampaignStatus.IMPORTING:  # stopped at a checkpoint: the next worker continues from it
            return Again(container.clock.now())
        if state is CampaignStatus.CANCELLED:  # rows may have been stored after the cancellation counted
            container.campaigns.cancel(ref)
        scheduler_messages.notify_changed(container.queues, ref)
        return Done()

    return handle


WORKERS = "workers"
"""The journal that shows which workers are alive."""
_SWITCH_S = 0.0005  # the interpreter lock changes hands this often: a thread back from the disk waits less than a message takes


def run(container: Container, only: CampaignRef | None, *, maintenance: bool) -> int:
    """Work until stopped and return the exit code. `only`: one campaign; also returns when it has ended or is paused."""
    sys.setswitchinterval(_SWITCH_S)
    return 0 if uvloop.run(supervised(Worker(container, only, maintenance=maintenance).run)) else STOPPED


class Worker:
    """Sending on the event loop, the rest in threads."""

    def __init__(self, container: Container, only: CampaignRef | None, *, maintenance: bool) -> None:
        self._container = container
        self._only = only
        self._with_maintenance = maintenance
        self._journal = container.journals.begin(WORKERS)  # for its name, and the proof of death that comes with it

    async def run(self, stop: Stop) -> bool:
        """Run until stopped; return whether the work is over. Raises errors of the stores once nothing is in flight."""
        maintenance = MaintenanceLoop(self._container, only=self._only, stopped=stop.flag)
        threads = [asyncio.create_task(asyncio.to_thread(loop.run, stop.flag)) for loop in self._workflow_loops(stop)]
        if self._with_maintenance:
            threads.append(asyncio.create_task(asyncio.to_thread(maintenance.run)))
        try:
            sending = SendLoop(self._container, only=self._only)
            over = await sending.run(stop, lambda: any(thread.done() for thread in threads))
        finally:
            stop.set()
            ended = await asyncio.gather(*threads, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        await asyncio.to_thread(self._tidy, maintenance)
        return over

    def _workflow_loops(self, stop: Stop) -> Iterator[WorkflowLoop]:
        container, owner = self._container, self._journal.owner
        only = None if self._only is None else self._only.campaign
        yield WorkflowLoop(
            container, scheduler_messages.IMPORT, import_handler(container, stop.flag), owner=owner, group=WORKERS, only=only
        )
        if self._only is None:
            change = partial(container.campaign_actions.handle, working=lambda: not stop)
            yield WorkflowLoop(container, ACTION, change, owner=owner, group=WORKERS)
            erase = partial(container.erasure_requests.handle, working=lambda: not stop)
            yield WorkflowLoop(container, ERASE, erase, owner=owner, group=WORKERS)

    def _tidy(self, maintenance: MaintenanceLoop) -> None:
        self._journal.close()
        for owner in self._container.journals.dead(WORKERS):
            self._container.journals.forget(WORKERS, owner)
        maintenance.trim_feed()
