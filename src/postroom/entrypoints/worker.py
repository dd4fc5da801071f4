"""A worker process: imports, scheduling and sending, until it is told to stop, its parent is gone, or its campaign has ended.

Everything it does is found in the stores and claimed by lease, so any number of workers may run, and a killed one is replaced
without asking anybody. SIGTERM, or the end of the parent (its standard input closes), stops new sends at once and drains
what is in flight for a bounded time. On standard output it says every second that it is alive (a dot), what keeps it from
sending (`~` and a sentence, or nothing once that is over), and what ended it (`!` and a sentence). Its parent kills a worker
that went silent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress

import uvloop

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, LeaseLost, NotFound, Permanent, PostroomError, Temporary
from postroom.ledger import notes
from postroom.model.campaign import ENDED, CampaignState, Home
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.feed import RETENTION_MS
from postroom.platform.ports.queues import Received
from postroom.platform.ports.workflows import Again, Call, Done
from postroom.wiring import Postroom

STOPPED = 75
"""The exit code of a worker that was told to stop before its work was over (EX_TEMPFAIL of sysexits.h)."""
ALIVE = "."
FATAL = "!"
TROUBLE = "~"
_WORKERS = "workers"
_ALIVE_EVERY_S = 1.0
_LOOK_S = 0.05
_TRIM_EVERY_S = 600.0
_NOTE_LEASE_S = 5
_RECORDS_EVERY_S = 2.0
_SWITCH_S = 0.0005  # the interpreter lock changes hands this often: a thread back from the disk waits less than a message takes
_log = logging.getLogger(__name__)


def run(postroom: Postroom, only: Home | None) -> int:
    """Work until stopped; the exit code. `only`: one campaign, and return when it has ended or is paused."""
    sys.setswitchinterval(_SWITCH_S)
    return 0 if uvloop.run(Worker(postroom, only).run()) else STOPPED


def last_words(error: PostroomError) -> None:
    """Tell the parent what ended this worker."""
    _log.error("%s", error)
    _say(FATAL + str(error).replace("\n", " "))


class Worker:
    """One process' loop: a task a campaign, and a thread for all else."""

    def __init__(self, postroom: Postroom, only: Home | None) -> None:
        self._postroom = postroom
        self._only = only
        self._journal = postroom.journals.begin(_WORKERS)  # for its name, and the proof of death that comes with it
        self._stopping = asyncio.Event()
        self._stopped = threading.Event()
        self._sending: dict[Home, asyncio.Task[None]] = {}

    async def run(self) -> bool:
        """Until stopped; whether the work was over. Errors of the stores are raised once nothing is in flight any more."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group: the parent decides
        threading.Thread(target=self._follow_parent, args=(loop,), daemon=True).start()
        alive = asyncio.create_task(self._say_alive())
        chores = asyncio.create_task(asyncio.to_thread(self._chores))
        try:
            over = await self._send_all(chores)
        finally:
            self._stop()
            ended = await asyncio.gather(chores, *self._sending.values(), return_exceptions=True)
            alive.cancel()
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        await asyncio.to_thread(self._tidy)
        return over

    def _tidy(self) -> None:
        self._journal.close()
        for owner in self._postroom.journals.dead(_WORKERS):
            self._postroom.journals.forget(_WORKERS, owner)
        self._trim_feed()

    async def _send_all(self, chores: asyncio.Task[None]) -> bool:
        """Whether the work is over; False: told to stop, or the chores ended."""
        while not self._stopping.is_set() and not chores.done():
            for home in await asyncio.to_thread(self._to_send):
                if home not in self._sending:
                    self._sending[home] = asyncio.create_task(
                        self._postroom.sender.send(home, self._stopping, lambda reason: _say(TROUBLE + reason))
                    )
            for home in [home for home, task in self._sending.items() if task.done()]:
                self._sending.pop(home).result()
                await asyncio.to_thread(self._end, home)
            if not self._sending and await asyncio.to_thread(self._over):
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
        return False

    def _to_send(self) -> list[Home]:
        running = [notes.parse_home(execution.input) for execution in self._postroom.workflows.running(notes.SEND)]
        return [home for home in running if self._only in (None, home)]

    def _end(self, home: Home) -> None:
        """A campaign that is no longer sending needs no worker, unless it was resumed in this very moment."""
        if self._state(home) is not CampaignState.SENDING:
            self._postroom.workflows.stop(notes.SEND, home.campaign, "not sending")
            if self._state(home) is CampaignState.SENDING:
                notes.run_send(self._postroom.workflows, home)

    def _over(self) -> bool:
        return self._only is not None and self._state(self._only) in {*ENDED, CampaignState.PAUSED}

    def _state(self, home: Home) -> CampaignState:
        return self._postroom.records.get(home).state

    # In a thread of its own: timers, notes and imports, which compute for long.

    def _chores(self) -> None:
        postroom = self._postroom
        only = None if self._only is None else self._only.campaign
        lease_ms = round(postroom.settings.lease * 1000)
        trim = _Every(_TRIM_EVERY_S, postroom.clock)
        records = _Every(_RECORDS_EVERY_S, postroom.clock)
        while not self._stopped.is_set():
            postroom.timers.fire_due(postroom.clock.now())
            if trim.due():
                self._trim_feed()
            if records.due():
                self._look_at_records()
            dead = postroom.journals.dead(_WORKERS)
            imported = postroom.workflows.run_due(
                notes.IMPORT, self._import, self._journal.owner, lease_ms=lease_ms, dead=dead, only=only
            )
            if not self._handle_notes() and not imported:
                self._stopped.wait(_LOOK_S)

    def _look_at_records(self) -> None:
        """What a lost note would have said: the record is the truth, and nothing waits for ever for a note."""
        homes = [self._only] if self._only is not None else self._homes()
        for home in homes:
            with suppress(Conflict, NotFound):  # somebody changed or deleted it in this moment: the next look sees
                self._postroom.scheduler.look(home)

    def _homes(self) -> list[Home]:
        campaigns = self._postroom.records.list(DEFAULT_TENANT, limit=1_000).campaigns
        return [campaign.home for campaign in campaigns if campaign.state not in ENDED]

    def _trim_feed(self) -> None:
        feed = self._postroom.feed
        for shard in feed.shards():
            with suppress(NotFound):  # deleted in this moment
                feed.trim(shard, Instant(self._postroom.clock.now() - RETENTION_MS))

    def _import(self, call: Call) -> Done | Again:
        home = notes.parse_home(call.execution.input)
        try:
            self._postroom.splitter.run(home, alive=lambda: call.alive() and not self._stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # it would end the same way each time: say so where people look
            campaign = self._postroom.records.get(home)
            if campaign.state is CampaignState.IMPORTING:
                self._postroom.records.transition(campaign, CampaignState.FAILED, reason=str(error))
            raise
        if self._state(home) is CampaignState.IMPORTING:  # stopped at a checkpoint: somebody goes on from there
            return Again(self._postroom.clock.now())
        if self._state(home) is CampaignState.CANCELLED:  # it may have stored rows after those who cancelled had counted
            self._postroom.campaigns.cancel(home)
        notes.look(self._postroom.queues, home)
        return Done()

    def _handle_notes(self) -> bool:
        received = self._postroom.queues.receive(notes.QUEUE, limit=10, lease_s=_NOTE_LEASE_S)
        for item in received:
            self._handle_note(item)
        return bool(received)

    def _handle_note(self, item: Received) -> None:
        queues = self._postroom.queues
        try:
            self._postroom.scheduler.handle(item.body)
        except (Conflict, Temporary) as error:
            _log.info("a note to the scheduler comes again: %s", error)
            return
        except Permanent as error:
            _log.warning("a note to the scheduler is dropped: %s", error)
        with suppress(LeaseLost):  # somebody else has it now, and finds the work done
            queues.delete(notes.QUEUE, item.receipt)

    def _stop(self) -> None:
        self._stopping.set()
        self._stopped.set()

    def _follow_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(self._stop)

    async def _say_alive(self) -> None:
        while True:
            _say(ALIVE)
            await asyncio.sleep(_ALIVE_EVERY_S)


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


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # the parent is gone: `_follow_parent` sees it too
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
