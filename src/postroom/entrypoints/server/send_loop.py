"""Runs the sending of one worker: a task for each stream with pending messages, and one for each campaign, in fair turns.

Streams are short and start at once. A worker works on a bounded number of campaigns at the same time; if more are waiting, a
campaign that had its turn goes to the end of the queue, and the tenant with the fewest running campaigns comes first. An error
of one campaign does not stop the others: a permanent error pauses the campaign with the reason, a temporary one lets it rest a
while. Only a worker for a single campaign ends with its error.
"""

from __future__ import annotations

import asyncio
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
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

AT_ONCE = 16
"""Campaigns that a worker sends at the same time: each has its own composer and connections."""
TURN_S = 20.0
"""A turn's minimum length while others wait: starting and draining cost a moment."""
_LOOK_S = 0.05
_REST_S = 5.0
_log = event_logger(__name__)
_Send = Callable[[CampaignRef, StopSignal, Callable[[str], None]], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Turn:
    """A campaign or stream that is being sent."""

    task: asyncio.Task[None]
    stop: StopSignal
    began: float


class SendLoop:
    """The sending of one worker."""

    def __init__(self, container: Container, *, only: CampaignRef | None, at_once: int = AT_ONCE, turn_s: float = TURN_S) -> None:
        self._container = container
        self._only = only
        self._at_once = at_once
        self._turn_s = turn_s
        self._turns: dict[CampaignRef, _Turn] = {}
        self._queue: dict[CampaignRef, None] = {}
        """Campaigns that had a turn, the one that waits longest first."""
        self._resting: dict[CampaignRef, float] = {}
        """When each may run again, after an error."""

    async def run(self, stop: Stop, broken: Callable[[], bool]) -> bool:
        """Return True if the work is over, False after a stop or if `broken`. Raises errors of the stores once nothing is in
        flight."""
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
        """Return the campaigns and the streams that are running."""
        if self._only is not None:
            return [ref for ref in self._refs(scheduler_messages.SEND) if ref == self._only], []
        return self._refs(scheduler_messages.SEND), self._refs(scheduler_messages.STREAM)

    def _refs(self, workflow: str) -> list[CampaignRef]:
        return [scheduler_messages.parse_ref(execution.input) for execution in self._container.workflows.running(workflow)]

    def _waiting(self, running: list[CampaignRef]) -> list[CampaignRef]:
        now = asyncio.get_running_loop().time()
        self._resting = {ref: until for ref, until in self._resting.items() if until > now}
        return [ref for ref in running if ref not in self._turns and ref not in self._resting]

    def _take_streams(self, running: list[CampaignRef]) -> None:
        for ref in self._waiting(running):
            self._begin(ref, self._container.sender.send_stream)

    def _take_turns(self, running: list[CampaignRef]) -> None:
        waiting = self._waiting(running)
        busy = Counter(ref.tenant for ref in self._turns if not is_stream(ref.campaign))
        while waiting and busy.total() < self._at_once:
            had = list(self._queue)
            chosen = min(waiting, key=lambda ref: (busy[ref.tenant], had.index(ref) if ref in self._queue else -1))
            waiting.remove(chosen)
            busy[chosen.tenant] += 1
            self._begin(chosen, self._container.sender.send)
        if waiting:
            self._yield_longest(len(waiting))

    def _begin(self, ref: CampaignRef, send: _Send) -> None:
        self._queue.pop(ref, None)
        stop = StopSignal()
        task = asyncio.create_task(send(ref, stop, report_trouble))
        self._turns[ref] = _Turn(task, stop, asyncio.get_running_loop().time())

    def _yield_longest(self, places: int) -> None:
        """Preempt as many campaigns that had their time as are waiting."""
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
                await asyncio.to_thread(self._handle_error, ref, error)
            elif not await asyncio.to_thread(self._end, ref):
                self._queue[ref] = None

    def _handle_error(self, ref: CampaignRef, error: Exception) -> None:
        """Pause the campaign after a permanent error. This is the edge of the worker: an error of our own code must not stop
        other campaigns either."""
        ours = not isinstance(error, PostroomError)
        _log.error("campaign.send_failed", campaign=ref.campaign, reason=str(error), exc_info=error if ours else None)
        if isinstance(error, Temporary | Conflict | OSError) or is_stream(ref.campaign):
            return
        reason = f"an error in Postroom, {type(error).__name__}: its log says where; then resume it" if ours else str(error)
        try:
            with suppress(Conflict, NotFound):  # changed or deleted in this moment: the next look sees
                campaign = self._container.records.get(ref)
                if campaign.status is CampaignStatus.SENDING:
                    self._container.records.transition(campaign, CampaignStatus.PAUSED, reason=reason)
            self._container.workflows.stop(scheduler_messages.SEND, ref.campaign, reason[:200])
        except PostroomError as another:  # an unreadable record, for example: it rests, and the others go on
            _log.error("campaign.pause_failed", campaign=ref.campaign, reason=str(another))

    async def _end_all(self) -> None:
        for turn in self._turns.values():
            turn.stop.shutdown.set()
        ended = await asyncio.gather(*(turn.task for turn in self._turns.values()), return_exceptions=True)
        for ref, error in zip(self._turns, ended, strict=True):
            if isinstance(error, BaseException):
                if self._ends_all(error):
                    raise error
                _log.error("campaign.send_failed", campaign=ref.campaign, reason=str(error))

    def _ends_all(self, error: BaseException) -> bool:
        """Whether an error of a campaign ends the worker as well."""
        return self._only is not None or not isinstance(error, Exception)

    def _end(self, ref: CampaignRef) -> bool:
        """End a campaign's execution unless it is sending, or was resumed in this moment. Return whether it ended."""
        if is_stream(ref.campaign):
            self._container.streams.end(ref)
            return True
        if self._status(ref) is CampaignStatus.SENDING:
            return False
        self._container.workflows.stop(scheduler_messages.SEND, ref.campaign, "not sending")
        if self._status(ref) is CampaignStatus.SENDING:
            scheduler_messages.start_send(self._container.workflows, ref)
            return False
        return True

    def _over(self) -> bool:
        return self._only is not None and self._status(self._only) in {*ENDED, CampaignStatus.PAUSED}

    def _status(self, ref: CampaignRef) -> CampaignStatus | None:
        """Return None if it is deleted."""
        try:
            return self._container.records.get(ref).status
        except NotFound:
            return None
