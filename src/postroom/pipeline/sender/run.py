"""Batches that somebody else has chosen for this worker: each is opened once, and what remains is told.

On one machine a worker looks for due batches itself, which costs it little. Where a look at a campaign costs a read a batch, one
function looks for all (rounds.py), and gives each of those that send a part.

One campaign or stream in one worker: claims its batches while it is wanted, several at a time, until it is over.

Several, because a group ends with the slowest of its messages: other batches fill the connections meanwhile. Each open
group is also what a power cut leaves in doubt, so no more than are needed: more than usual only while slow recipients
leave the mailer without work.

A campaign as the cause of a run: wanted while its record says that it is sending and its provider is what it was, over when
the ledger adds up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from postroom.clock import Instant
from postroom.errors import PostroomError, Temporary
from postroom.ledger.campaigns import CampaignCompletion, Campaigns
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.pipeline.sender.batch import BatchRun
from postroom.pipeline.sender.context import SendContext


class AssignedBatches:
    """Some of one campaign's. See run.Source."""

    def __init__(self, numbers: Iterable[int], *, beside: int = 1) -> None:
        """`beside`: how many work on parts of the campaign at the same time, this one among them."""
        self._left = dict.fromkeys(numbers)
        self.beside = beside

    @property
    def left(self) -> list[int]:
        """Those that were not begun."""
        return list(self._left)

    def due(self, limit: int) -> list[int]:
        """Some that were not begun."""
        return list(self._left)[:limit]

    def begun(self, number: int) -> None:
        """It is being worked on, or is somebody else's."""
        del self._left[number]

    def next_due(self) -> Instant | None:
        """Of others nothing is known."""
        return None


_LOOK_AGAIN_S = 0.1  # how soon a mailer without work gets one batch more


_LOOK_S = 0.4  # how often it is asked whether the work is still wanted: a pause takes effect within a second


_CLAIM = 16


_log = logging.getLogger(__name__)


class RunPolicy(Protocol):
    """Why anything is sent at all. Blocks: called off the loop."""

    def wanted(self) -> bool:
        """Whether to go on; False: at once no more."""
        ...

    def over(self, idle_s: float) -> bool:
        """Whether nothing is left to do, ever. Asked while no batch is being worked on, for the last `idle_s` seconds."""
        ...


class BatchSource(Protocol):
    """Where batches come from. Blocks: called off the loop, but for `begun`."""

    def due(self, limit: int) -> list[int]:
        """Batches worth opening now."""
        ...

    def begun(self, number: int) -> None:
        """That one is being opened."""
        ...

    def next_due(self) -> Instant | None:
        """When there is work again; None: not known."""
        ...


class AllDueBatches:
    """All that are due, as the stores know them."""

    def __init__(self, means: SendContext) -> None:
        self._means = means

    def due(self, limit: int) -> list[int]:
        """See Source."""
        return self._means.batches.claim(self._means.ref, self._means.journal.owner, limit)

    def begun(self, number: int) -> None:
        """See Source."""

    def next_due(self) -> Instant | None:
        """See Source."""
        return self._means.messages.next_due(self._means.ref)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many batches are worked on at a time, and how soon new work is seen."""

    usual: int
    most: int
    idle_s: float
    """How long the run sleeps at most while nothing is due."""


class Run:
    """See the module's text."""

    def __init__(
        self,
        means: SendContext,
        cause: RunPolicy,
        reach: Concurrency,
        *,
        batch: Callable[[int], Coroutine[None, None, None]],
        drain_s: float,
        source: BatchSource | None = None,
    ) -> None:
        """`batch`: works on the batch of that number until it is done. `source`: None for all that are due."""
        self._source = source or AllDueBatches(means)
        self._means = means
        self._cause = cause
        self._reach = reach
        self._batch = batch
        self._drain_s = drain_s
        self._running: dict[asyncio.Task[None], int] = {}
        self._busy_at = means.clock.monotonic()

    async def run(self) -> None:
        """Returns when nothing is left, it is no longer wanted, or `means.stopping` is set. Then nothing is in flight
        (what was not answered within `drain_s` is unknown; at the end of a turn all is answered), all that was learnt is
        recorded, and the mailer is closed. Errors of the stores are raised, after the other batches have ended."""
        watch = asyncio.create_task(self._watch())
        try:
            while not self._means.stopping.is_set():
                await self._start_batches()
                if not self._running and await self._idle():
                    break
                await self._reap()
        finally:
            self._means.stopping.set()
            try:
                await self._end_turn()
            finally:
                await self._means.mailer.close(self._drain_s)
            ended = await asyncio.gather(*self._running, return_exceptions=True)
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _start_batches(self) -> None:
        means = self._means
        free = self._free()
        if free <= 0:
            return
        due = await means.threads(self._source.due, max(_CLAIM, self._reach.usual))
        mine = set(self._running.values())
        due = [number for number in due if number not in mine]
        for number in random.sample(due, min(free, len(due))):  # at random: so that workers rarely reach for the same
            self._source.begun(number)
            self._running[asyncio.create_task(self._batch(number))] = number

    def _free(self) -> int:
        """How many batches may begin. While the provider cannot be reached none; when it is to be tried again one, to try it."""
        mailer, running = self._means.mailer, len(self._running)
        health = mailer.health()
        if not health.open:
            return 1 if health.retry_in_s <= 0 and not running else 0
        if running < self._reach.usual:
            return self._reach.usual - running
        return 1 if running < self._reach.most and not mailer.waiting else 0

    async def _reap(self) -> None:
        """Wait for the first batch to end, a moment at most."""
        if not self._running:
            await _wait(self._means.stopping, 0.05)
            return
        self._busy_at = self._means.clock.monotonic()
        done, _ = await asyncio.wait(self._running, timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
        for task in done:
            task.result()

    async def _idle(self) -> bool:
        """Nothing to do here now. Done for good?"""
        means = self._means
        if await means.threads(self._cause.over, means.clock.monotonic() - self._busy_at):
            return True
        due = await means.threads(self._source.next_due)
        wait = self._reach.idle_s if due is None else (due - means.clock.now()) / 1000
        await _wait(means.stopping, min(max(wait, 0.02), self._reach.idle_s))
        return False

    async def _end_turn(self) -> None:
        """Nobody is to be in doubt because others wait: what is in flight is answered in the relay's own time, unless the worker
        is to end, or the work is no longer wanted."""
        means, running = self._means, set(self._running)
        while running and means.leave.preempt.is_set() and not means.leave.stopping.is_set() and await self._still_wanted():
            means.mailer.recall()  # again and again: what a broken connection gave back is in line
            _, running = await asyncio.wait(running, timeout=_LOOK_S)

    async def _watch(self) -> None:
        """Notice that it is no longer wanted, and say when the provider cannot be reached or may not be used more today."""
        means = self._means
        trouble = ""
        while not means.stopping.is_set():
            await _wait(means.stopping, _LOOK_S)
            try:
                wanted = await self._still_wanted()
            except PostroomError:  # it is deleted, say: `run` raises it, and nothing is sent unwatched
                means.stopping.set()
                raise
            if not wanted:
                means.stopping.set()
                means.mailer.recall()
            health = means.mailer.health()
            before, trouble = trouble, means.rate_gate.waits if health.open else health.reason
            if trouble != before:
                means.on_trouble(trouble)

    async def _still_wanted(self) -> bool:
        """A look that fails says nothing: the next one may."""
        means = self._means
        try:
            return await means.threads(self._cause.wanted)
        except Temporary as error:
            _log.warning("campaign %s: its state cannot be read: %s", means.ref.campaign, error)
            return True


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


CONCURRENT_BATCHES = 6


"""At most."""


_CONCURRENCY = Concurrency(usual=2, most=CONCURRENT_BATCHES, idle_s=0.4)


class CampaignPolicy:
    """See run.Cause."""

    def __init__(self, ref: CampaignRef, campaigns: Campaigns, finish: CampaignCompletion, unchanged: Callable[[], bool]) -> None:
        """`unchanged`: whether mail still leaves as it did when the run began; else it is to begin anew."""
        self._ref = ref
        self._campaigns = campaigns
        self._finish = finish
        self._unchanged = unchanged

    def wanted(self) -> bool:
        return self._campaigns.get(self._ref).status is CampaignStatus.SENDING and self._unchanged()

    def over(self, idle_s: float) -> bool:
        return self._finish.finish(self._ref)


class AssignedPolicy(CampaignPolicy):
    """A part of a campaign: over when each of its batches was begun. Whether the campaign is, others ask."""

    def __init__(
        self,
        ref: CampaignRef,
        campaigns: Campaigns,
        finish: CampaignCompletion,
        unchanged: Callable[[], bool],
        *,
        given: AssignedBatches,
    ) -> None:
        super().__init__(ref, campaigns, finish, unchanged)
        self._given = given

    def over(self, idle_s: float) -> bool:
        return not self._given.left


def campaign_run(
    means: SendContext,
    campaigns: Campaigns,
    finish: CampaignCompletion,
    *,
    drain_s: float,
    unchanged: Callable[[], bool] = lambda: True,
    given: AssignedBatches | None = None,
) -> Run:
    """One campaign's; `given`: of those batches alone."""
    cause = (
        CampaignPolicy(means.ref, campaigns, finish, unchanged)
        if given is None
        else AssignedPolicy(means.ref, campaigns, finish, unchanged, given=given)
    )
    return Run(means, cause, _CONCURRENCY, batch=lambda number: BatchRun(means, number).run(), drain_s=drain_s, source=given)
