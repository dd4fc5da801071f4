"""A worker process: imports and sends, and does the chores where nobody else does, until told to stop or its campaign has ended.

Everything it does is found in the stores and claimed by lease, so any number of workers may run, and a killed one is replaced
without asking anybody. Told to stop, it stops new sends at once and drains what is in flight for a bounded time.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial

import uvloop

from postroom.entrypoints.chores import Chores
from postroom.entrypoints.handling import Handling
from postroom.entrypoints.importing import importer
from postroom.entrypoints.process import STOPPED, Stop, attended
from postroom.entrypoints.sending import Sending
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE
from postroom.wiring import Postroom

WORKERS = "workers"
"""The journal whose pages prove that workers live."""
_SWITCH_S = 0.0005  # the interpreter lock changes hands this often: a thread back from the disk waits less than a message takes


def run(postroom: Postroom, only: CampaignRef | None, *, chores: bool) -> int:
    """Work until stopped; the exit code. `only`: one campaign, and return when it has ended or is paused."""
    sys.setswitchinterval(_SWITCH_S)
    return 0 if uvloop.run(attended(Worker(postroom, only, chores=chores).run)) else STOPPED


class Worker:
    """Sending on the event loop, the rest in threads."""

    def __init__(self, postroom: Postroom, only: CampaignRef | None, *, chores: bool) -> None:
        self._postroom = postroom
        self._only = only
        self._with_chores = chores
        self._journal = postroom.journals.begin(WORKERS)  # for its name, and the proof of death that comes with it

    async def run(self, stop: Stop) -> bool:
        """Until stopped; whether the work was over. Errors of the stores are raised once nothing is in flight any more."""
        chores = Chores(self._postroom, only=self._only, stopped=stop.flag)
        threads = [asyncio.create_task(asyncio.to_thread(handling.run, stop.flag)) for handling in self._handlings(stop)]
        if self._with_chores:
            threads.append(asyncio.create_task(asyncio.to_thread(chores.run)))
        try:
            sending = Sending(self._postroom, only=self._only)
            over = await sending.run(stop, lambda: any(thread.done() for thread in threads))
        finally:
            stop.set()
            ended = await asyncio.gather(*threads, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        await asyncio.to_thread(self._tidy, chores)
        return over

    def _handlings(self, stop: Stop) -> Iterator[Handling]:
        postroom, owner = self._postroom, self._journal.owner
        only = None if self._only is None else self._only.campaign
        yield Handling(postroom, scheduler_messages.IMPORT, importer(postroom, stop.flag), owner=owner, group=WORKERS, only=only)
        if self._only is None:
            change = partial(postroom.changes.handle, working=lambda: not stop)
            yield Handling(postroom, ACTION, change, owner=owner, group=WORKERS)
            erase = partial(postroom.erasure_requests.handle, working=lambda: not stop)
            yield Handling(postroom, ERASE, erase, owner=owner, group=WORKERS)

    def _tidy(self, chores: Chores) -> None:
        self._journal.close()
        for owner in self._postroom.journals.dead(WORKERS):
            self._postroom.journals.forget(WORKERS, owner)
        chores.trim_feed()
