"""What a worker sends: a task for each stream of single messages that owes any, and one for each campaign, in fair turns.

Streams are few, short, and wait for nobody. All running campaigns are found in the stores. A worker works on a bounded number of
them at once; where more are waiting, one that had its turn goes to the end of the line, and the tenant with the fewest at work
comes first. What one meets holds up no other: a campaign that cannot go on is paused with the reason, whatever meets a busy
store rests a while. Only a worker that works for a single campaign ends with its error.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from postroom.entrypoints.server.process import Stop, report_trouble
from postroom.errors import Conflict, NotFound, PostroomError, Temporary
from postroom.ledger import scheduler_messages
from postroom.model.campaign import ENDED, CampaignRef, CampaignStatus
from postroom.model.stream import is_stream
from postroom.pipeline.sender.context import StopSignal
from postroom.wiring import Container

AT_ONCE = 16
"""Campaigns that a worker works on at the same time: each has a composer and connections of its own."""
TURN_S = 20.0
"""How long a campaign is worked on at least, where others wait for it: to begin and to drain costs a moment."""
_LOOK_S = 0.05
_REST_S = 5.0
_log = logging.getLogger(__name__)
_Send = Callable[[CampaignRef, StopSignal, Callable[[str], None]], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Turn:
    """A campaign or stream at work."""

    task: asyncio.Task[None]
    stop: StopSignal
    began: float


class SendLoop:
    """One worker's."""

    def __init__(self, postroom: Container, *, only: CampaignRef | None, at_once: int = AT_ONCE, turn_s: float = TURN_S) -> None:
        self._postroom = postroom
        self._only = only
        self._at_once = at_once
        self._turn_s = turn_s
        self._turns: dict[CampaignRef, _Turn] = {}
        self._line: dict[CampaignRef, None] = {}
        """Those that had a turn, the one that waits longest first."""
        self._resting: dict[CampaignRef, float] = {}
        """Until when they are left alone."""

    async def run(self, stop: Stop, broken: Callable[[], bool]) -> bool:
        """Whether the work is over; False: told to stop, or `broken`. Errors of the stores are raised, once nothing is in
        flight any more."""
        try:
            while not stop and not broken():
                running, streams = await asyncio.to_thread(self._running)
                self._take_streams(streams)
                self._take_turns(running)
                await self._reap()
                if not self._turns and await asyncio.to_thread(self._over):
                    return True
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.event.wait(), _LOOK_S)
            return False
        finally:
            await self._end_all()

    def _running(self) -> tuple[list[CampaignRef], list[CampaignRef]]:
        """Campaigns, and streams."""
        if self._only is not None:
            return [ref for ref in self._refs(scheduler_messages.SEND) if ref == self._only], []
        return self._refs(scheduler_messages.SEND), self._refs(scheduler_messages.STREAM)

    def _refs(self, workflow: str) -> list[CampaignRef]:
        return [scheduler_messages.parse_ref(execution.input) for execution in self._postroom.workflows.running(workflow)]

    def _waiting(self, running: list[CampaignRef]) -> list[CampaignRef]:
        now = asyncio.get_running_loop().time()
        self._resting = {ref: until for ref, until in self._resting.items() if until > now}
        return [ref for ref in running if ref not in self._turns and ref not in self._resting]

    def _take_streams(self, running: list[CampaignRef]) -> None:
        for ref in self._waiting(running):
            self._begin(ref, self._postroom.sender.send_stream)

    def _take_turns(self, running: list[CampaignRef]) -> None:
        waiting = self._waiting(running)
        busy = Counter(ref.tenant for ref in self._turns if not is_stream(ref.campaign))
        while waiting and busy.total() < self._at_once:
            had = list(self._line)
            chosen = min(waiting, key=lambda ref: (busy[ref.tenant], had.index(ref) if ref in self._line else -1))
            waiting.remove(chosen)
            busy[chosen.tenant] += 1
            self._begin(chosen, self._postroom.sender.send)
        if waiting:
            self._yield_longest(len(waiting))

    def _begin(self, ref: CampaignRef, send: _Send) -> None:
        self._line.pop(ref, None)
        stop = StopSignal()
        task = asyncio.create_task(send(ref, stop, report_trouble))
        self._turns[ref] = _Turn(task, stop, asyncio.get_running_loop().time())

    def _yield_longest(self, places: int) -> None:
        """Those that had their time make room for as many as wait."""
        due = asyncio.get_running_loop().time() - self._turn_s
        had = [turn for ref, turn in self._turns.items() if turn.began <= due and not is_stream(ref.campaign)]
        for turn in had[:places]:
            turn.stop.preempt.set()

    async def _reap(self) -> None:
        for ref in [ref for ref, turn in self._turns.items() if turn.task.done()]:
            error = self._turns.pop(ref).task.exception()
            if error is not None and self._ends_all(error):
                raise error
            if isinstance(error, Exception):
                self._resting[ref] = asyncio.get_running_loop().time() + _REST_S
                await asyncio.to_thread(self._stumble, ref, error)
            elif not await asyncio.to_thread(self._end, ref):
                self._line[ref] = None

    def _stumble(self, ref: CampaignRef, error: Exception) -> None:
        """A campaign met something it could not go on with. The edge of the worker: also a mistake of ours, which is not to stop
        the mail of everybody else."""
        ours = not isinstance(error, PostroomError)
        _log.error("campaign %s: %s", ref.campaign, error, exc_info=error if ours else None)
        if isinstance(error, Temporary | Conflict | OSError) or is_stream(ref.campaign):
            return
        reason = f"an error in Postroom, {type(error).__name__}: its log says where; then resume it" if ours else str(error)
        try:
            with suppress(Conflict, NotFound):  # changed or deleted in this moment: the next look sees
                campaign = self._postroom.records.get(ref)
                if campaign.status is CampaignStatus.SENDING:
                    self._postroom.records.transition(campaign, CampaignStatus.PAUSED, reason=reason)
            self._postroom.workflows.stop(scheduler_messages.SEND, ref.campaign, reason[:200])
        except PostroomError as another:  # its record cannot be read, say: it rests, and the others go on
            _log.error("campaign %s cannot be paused: %s", ref.campaign, another)

    async def _end_all(self) -> None:
        for turn in self._turns.values():
            turn.stop.shutdown.set()
        ended = await asyncio.gather(*(turn.task for turn in self._turns.values()), return_exceptions=True)
        for ref, error in zip(self._turns, ended, strict=True):
            if isinstance(error, BaseException):
                if self._ends_all(error):
                    raise error
                _log.error("campaign %s: %s", ref.campaign, error)

    def _ends_all(self, error: BaseException) -> bool:
        """Whether a turn's error is this worker's end as well."""
        return self._only is not None or not isinstance(error, Exception)

    def _end(self, ref: CampaignRef) -> bool:
        """A campaign that is no longer sending needs no worker, unless it was resumed in this very moment. Whether it ended."""
        if is_stream(ref.campaign):
            self._postroom.streams.end(ref)
            return True
        if self._state(ref) is CampaignStatus.SENDING:
            return False
        self._postroom.workflows.stop(scheduler_messages.SEND, ref.campaign, "not sending")
        if self._state(ref) is CampaignStatus.SENDING:
            scheduler_messages.start_send(self._postroom.workflows, ref)
            return False
        return True

    def _over(self) -> bool:
        return self._only is not None and self._state(self._only) in {*ENDED, CampaignStatus.PAUSED}

    def _state(self, ref: CampaignRef) -> CampaignStatus | None:
        """None: it is deleted."""
        try:
            return self._postroom.records.get(ref).status
        except NotFound:
            return None
