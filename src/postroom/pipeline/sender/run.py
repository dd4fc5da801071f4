"""One campaign or stream in one worker: claims batches while it may send, several at a time, until nothing is left.

Several, because a group ends with its slowest message: other batches fill the connections meanwhile. Each open group is also
what a power cut leaves in doubt, so no more than needed: above `usual` only while slow recipients leave the mailer idle.
"""

from __future__ import annotations

import asyncio
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
from postroom.telemetry.logs import event_logger

CONCURRENT_BATCHES = 6
"""Batches of a campaign at the same time, at most."""
_LOOK_AGAIN_S = 0.1  # how soon an idle mailer gets one more batch
_LOOK_S = 0.4  # how often the campaign's record is read: a pause takes effect within a second
_CLAIM = 16
_log = event_logger(__name__)


class RunPolicy(Protocol):
    """Decides whether a run continues. Blocks: called on a thread."""

    def wanted(self) -> bool:
        """Whether to go on. False: stop at once."""
        ...

    def over(self, idle_s: float) -> bool:
        """Whether nothing will ever be left to do. Asked only after `idle_s` seconds without a batch at work."""
        ...


class CampaignPolicy:
    """A campaign is sent while its record says `sending` and its provider is unchanged; it is over when the ledger adds up."""

    def __init__(
        self, ref: CampaignRef, campaigns: Campaigns, completion: CampaignCompletion, unchanged: Callable[[], bool]
    ) -> None:
        """`unchanged`: whether mail still leaves by the same route; if not, the run must begin anew."""
        self._ref = ref
        self._campaigns = campaigns
        self._completion = completion
        self._unchanged = unchanged

    def wanted(self) -> bool:
        return self._campaigns.get(self._ref).status is CampaignStatus.SENDING and self._unchanged()

    def over(self, idle_s: float) -> bool:
        return self._completion.complete(self._ref)


class BatchSource(Protocol):
    """Where batch numbers come from. Blocks, except `begun`: called on a thread."""

    def due(self, limit: int) -> list[int]:
        """Batches to open now, at most `limit` of them."""
        ...

    def begun(self, number: int) -> None:
        """The batch is being opened."""
        ...

    def next_due(self) -> Instant | None:
        """When there is work again. None: not known."""
        ...


class AllDueBatches:
    """Every due batch of the campaign, claimed from the ledger."""

    def __init__(self, context: SendContext) -> None:
        self._context = context

    def due(self, limit: int) -> list[int]:
        return self._context.batches.claim(self._context.job.ref, self._context.journal.owner, limit)

    def begun(self, number: int) -> None:
        return

    def next_due(self) -> Instant | None:
        return self._context.messages.next_due(self._context.job.ref)


class AssignedBatches:
    """Batches that were assigned to this worker (dispatch.py). Each is opened once; `left` are those not yet begun.

    On one machine a worker looks for due batches itself. On AWS a look costs one read per batch, so one function looks for all
    and assigns each of the others a part.
    """

    def __init__(self, numbers: Iterable[int], *, workers: int = 1) -> None:
        """`workers`: how many work on the campaign at the same time, this one included."""
        self._left = dict.fromkeys(numbers)
        self.workers = workers

    @property
    def left(self) -> list[int]:
        """Batches not yet begun."""
        return list(self._left)

    def due(self, limit: int) -> list[int]:
        return list(self._left)[:limit]

    def begun(self, number: int) -> None:
        del self._left[number]

    def next_due(self) -> Instant | None:
        return None


class AssignedPolicy(CampaignPolicy):
    """A part of a campaign: over when each of its batches was begun. The dispatcher decides when the campaign is completed."""

    def __init__(
        self,
        ref: CampaignRef,
        campaigns: Campaigns,
        completion: CampaignCompletion,
        unchanged: Callable[[], bool],
        *,
        assigned: AssignedBatches,
    ) -> None:
        super().__init__(ref, campaigns, completion, unchanged)
        self._assigned = assigned

    def over(self, idle_s: float) -> bool:
        return not self._assigned.left


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many batches are worked on at a time, and how soon new work is seen."""

    usual: int
    most: int
    idle_s: float
    """How long the run sleeps at most while nothing is due."""


class Run:
    """The loop that starts batches and waits for them."""

    def __init__(
        self,
        context: SendContext,
        policy: RunPolicy,
        concurrency: Concurrency,
        *,
        batch: Callable[[int], Coroutine[None, None, None]],
        drain_s: float,
        source: BatchSource | None = None,
    ) -> None:
        """`batch`: sends the batch of that number. `source`. None: every due batch. `drain_s`: seconds that messages in flight
        get to be answered when the run ends."""
        self._source = source or AllDueBatches(context)
        self._context = context
        self._policy = policy
        self._concurrency = concurrency
        self._batch = batch
        self._drain_s = drain_s
        self._running: dict[asyncio.Task[None], int] = {}
        self._busy_at = context.clock.monotonic()

    async def run(self) -> None:
        """Send until the policy says it is over or no longer wanted, or `context.stopping` is set.

        Then nothing is in flight (a message not answered within `drain_s` is `unknown`; after a preemption all are answered),
        every outcome is recorded, and the mailer is closed. Raises the stores' errors, after the other batches have ended.
        """
        watch = asyncio.create_task(self._watch())
        try:
            while not self._context.stopping.is_set():
                await self._start_batches()
                if not self._running and await self._idle():
                    break
                await self._reap()
        finally:
            self._context.stopping.set()
            try:
                await self._drain_preempted()
            finally:
                await self._context.mailer.close(self._drain_s)
            ended = await asyncio.gather(*self._running, return_exceptions=True)
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _start_batches(self) -> None:
        context = self._context
        free = self._free()
        if free <= 0:
            return
        due = await context.threads(self._source.due, max(_CLAIM, self._concurrency.usual))
        mine = set(self._running.values())
        due = [number for number in due if number not in mine]
        for number in random.sample(due, min(free, len(due))):  # at random, so that workers rarely reach for the same batch
            self._source.begun(number)
            self._running[asyncio.create_task(self._batch(number))] = number

    def _free(self) -> int:
        """How many batches may begin: none while the provider cannot be reached, one to try it again."""
        mailer, running = self._context.mailer, len(self._running)
        health = mailer.health()
        if not health.open:
            return 1 if health.retry_in_s <= 0 and not running else 0
        if running < self._concurrency.usual:
            return self._concurrency.usual - running
        return 1 if running < self._concurrency.most and not mailer.waiting else 0

    async def _reap(self) -> None:
        """Wait a moment for the first batch to end."""
        if not self._running:
            await _wait(self._context.stopping, 0.05)
            return
        self._busy_at = self._context.clock.monotonic()
        done, _ = await asyncio.wait(self._running, timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
        for task in done:
            task.result()

    async def _idle(self) -> bool:
        """Whether the run is over; if not, sleep until there may be work."""
        context = self._context
        if await context.threads(self._policy.over, context.clock.monotonic() - self._busy_at):
            return True
        due = await context.threads(self._source.next_due)
        wait = self._concurrency.idle_s if due is None else (due - context.clock.now()) / 1000
        await _wait(context.stopping, min(max(wait, 0.02), self._concurrency.idle_s))
        return False

    async def _drain_preempted(self) -> None:
        """Drain messages in flight, in the relay's own time, before yielding to another campaign: waiting campaigns are no reason
        to leave a message `unknown`. Ends early at a shutdown, or if the campaign may not be sent any more."""
        context, running = self._context, set(self._running)
        stop = context.stop
        while running and stop.preempt.is_set() and not stop.shutdown.is_set() and await self._still_wanted():
            context.mailer.recall()  # repeatedly: a broken connection puts its messages back in line
            _, running = await asyncio.wait(running, timeout=_LOOK_S)

    async def _watch(self) -> None:
        """Stop the run if the campaign may not be sent any more; report if the provider cannot be reached or its daily limit is
        used up."""
        context = self._context
        trouble = ""
        while not context.stopping.is_set():
            await _wait(context.stopping, _LOOK_S)
            try:
                wanted = await self._still_wanted()
            except PostroomError:  # the campaign is deleted, for example: `run` raises it, and nothing is sent unwatched
                context.stopping.set()
                raise
            if not wanted:
                context.stopping.set()
                context.mailer.recall()
            health = context.mailer.health()
            before, trouble = trouble, context.rate_gate.waits if health.open else health.reason
            if trouble != before:
                context.events.on_trouble(trouble)

    async def _still_wanted(self) -> bool:
        """If the record cannot be read now, go on: the next look may succeed."""
        context = self._context
        try:
            return await context.threads(self._policy.wanted)
        except Temporary as error:
            _log.warning("campaign.status_unreadable", campaign=context.job.ref.campaign, reason=str(error))
            return True


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def campaign_run(
    context: SendContext,
    campaigns: Campaigns,
    completion: CampaignCompletion,
    *,
    drain_s: float,
    unchanged: Callable[[], bool] = lambda: True,
    assigned: AssignedBatches | None = None,
) -> Run:
    """The run of a campaign. `assigned`: only of these batches; None: of all that are due."""
    policy = (
        CampaignPolicy(context.job.ref, campaigns, completion, unchanged)
        if assigned is None
        else AssignedPolicy(context.job.ref, campaigns, completion, unchanged, assigned=assigned)
    )
    concurrency = Concurrency(usual=2, most=CONCURRENT_BATCHES, idle_s=0.4)
    return Run(
        context, policy, concurrency, batch=lambda number: BatchRun(context, number).run(), drain_s=drain_s, source=assigned
    )
