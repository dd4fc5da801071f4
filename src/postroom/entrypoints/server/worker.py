"""A thread of a worker that carries out one kind of workflow: each is computing for long, and none must wait for another's.

What a worker does with an import: the handler of the workflow `notes.IMPORT`.

A worker process: imports and sends, and does the chores where nobody else does, until told to stop or its campaign has ended.

Everything it does is found in the stores and claimed by lease, so any number of workers may run, and a killed one is replaced
without asking anybody. Told to stop, it stops new sends at once and drains what is in flight for a bounded time.
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
    """Takes executions by lease, one at a time."""

    def __init__(
        self, postroom: Container, workflow: str, handler: Handler, *, owner: str, group: str, only: str | None = None
    ) -> None:
        """`group`: the journal that shows which workers are alive. `only`: carry out this execution alone."""
        self._postroom = postroom
        self._workflows = postroom.stores.on_one_machine("a worker").workflows
        self._workflow = workflow
        self._handler = handler
        self._owner = owner
        self._group = group
        self._only = only
        self._lease_ms = round(postroom.settings.lease * 1000)

    def run(self, stopped: threading.Event) -> None:
        """Until stopped. Errors of the stores are raised."""
        while not stopped.is_set():
            if not self.once():
                stopped.wait(_LOOK_S)

    def once(self) -> bool:
        """Carry out what is due; whether there was something."""
        return self._workflows.run_due(
            self._workflow,
            self._handler,
            self._owner,
            lease_ms=self._lease_ms,
            dead=self._postroom.journals.dead(self._group),
            only=self._only,
        )


def import_handler(postroom: Container, stopped: threading.Event) -> Handler:
    """Imports until done, or `stopped` at a checkpoint."""

    def handle(call: HandlerCall) -> Done | Again:
        ref = scheduler_messages.parse_ref(call.execution.input)
        try:
            postroom.splitter.run(ref, alive=lambda: call.alive() and not stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # it would end the same way each time: say so where people look
            campaign = postroom.records.get(ref)
            if campaign.status is CampaignStatus.IMPORTING:
                postroom.records.transition(campaign, CampaignStatus.FAILED, reason=str(error))
            raise
        state = postroom.records.get(ref).status
        if state is CampaignStatus.IMPORTING:  # stopped at a checkpoint: somebody goes on from there
            return Again(postroom.clock.now())
        if state is CampaignStatus.CANCELLED:  # it may have stored rows after those who cancelled had counted
            postroom.campaigns.cancel(ref)
        scheduler_messages.notify_changed(postroom.queues, ref)
        return Done()

    return handle


WORKERS = "workers"
"""The journal whose pages prove that workers live."""
_SWITCH_S = 0.0005  # the interpreter lock changes hands this often: a thread back from the disk waits less than a message takes


def run(postroom: Container, only: CampaignRef | None, *, maintenance: bool) -> int:
    """Work until stopped; the exit code. `only`: one campaign, and return when it has ended or is paused."""
    sys.setswitchinterval(_SWITCH_S)
    return 0 if uvloop.run(supervised(Worker(postroom, only, maintenance=maintenance).run)) else STOPPED


class Worker:
    """Sending on the event loop, the rest in threads."""

    def __init__(self, postroom: Container, only: CampaignRef | None, *, maintenance: bool) -> None:
        self._postroom = postroom
        self._only = only
        self._with_maintenance = maintenance
        self._journal = postroom.journals.begin(WORKERS)  # for its name, and the proof of death that comes with it

    async def run(self, stop: Stop) -> bool:
        """Until stopped; whether the work was over. Errors of the stores are raised once nothing is in flight any more."""
        maintenance = MaintenanceLoop(self._postroom, only=self._only, stopped=stop.flag)
        threads = [asyncio.create_task(asyncio.to_thread(handling.run, stop.flag)) for handling in self._handlings(stop)]
        if self._with_maintenance:
            threads.append(asyncio.create_task(asyncio.to_thread(maintenance.run)))
        try:
            sending = SendLoop(self._postroom, only=self._only)
            over = await sending.run(stop, lambda: any(thread.done() for thread in threads))
        finally:
            stop.set()
            ended = await asyncio.gather(*threads, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        await asyncio.to_thread(self._tidy, maintenance)
        return over

    def _handlings(self, stop: Stop) -> Iterator[WorkflowLoop]:
        postroom, owner = self._postroom, self._journal.owner
        only = None if self._only is None else self._only.campaign
        yield WorkflowLoop(
            postroom, scheduler_messages.IMPORT, import_handler(postroom, stop.flag), owner=owner, group=WORKERS, only=only
        )
        if self._only is None:
            change = partial(postroom.campaign_actions.handle, working=lambda: not stop)
            yield WorkflowLoop(postroom, ACTION, change, owner=owner, group=WORKERS)
            erase = partial(postroom.erasure_requests.handle, working=lambda: not stop)
            yield WorkflowLoop(postroom, ERASE, erase, owner=owner, group=WORKERS)

    def _tidy(self, maintenance: MaintenanceLoop) -> None:
        self._journal.close()
        for owner in self._postroom.journals.dead(WORKERS):
            self._postroom.journals.forget(WORKERS, owner)
        maintenance.trim_feed()
