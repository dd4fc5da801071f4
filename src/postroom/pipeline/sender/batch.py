"""One batch under its lease: one group of messages at a time, intent before effect, outcomes before the next intent.

What a kill leaves, line by line:

    before the first `record`   nothing
    after a `record`            an open group: its messages are in doubt unless the journal says otherwise (ledger.batches)
    after the last `record`     a lease; the next worker takes it over when it runs out

A worker that is too slow loses its lease. From then on it hands nothing over (`may_hand_over`) and writes nothing it learns:
the worker that holds the batch now has already decided.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Concatenate, ParamSpec

from postroom.delivery.compose import RowError
from postroom.errors import LeaseLost, Temporary
from postroom.model.batch import OpenBatch
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.model.tokens import MessageRef
from postroom.pipeline.sender.context import SendContext
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.telemetry.logs import event_logger

_LOAD = 2_000  # messages of one batch in one opening; if it holds more, the rest is due again
_LOOK_S = 0.25
_WRITE_TRIES = 6
_WRITE_WAIT_S = 0.5
_log = event_logger(__name__)
P = ParamSpec("P")


class BatchMessage:
    """One recipient's message as the mailer sees it (platform.mail.port.OutboundMessage).

    Composed once, when a connection first asks for it.
    """

    __slots__ = ("_batch", "_content", "_recipient", "mail_from", "rcpt_to", "ref")

    def __init__(self, batch: BatchRun, recipient: Recipient) -> None:
        self._batch = batch
        self._recipient = recipient
        self._content: bytes | None = None
        self.mail_from = ""
        self.rcpt_to = recipient.address
        self.ref: MessageRef | None = None

    def compose(self) -> bytes | None:
        if self._content is None:
            batch = self._batch
            try:
                self.mail_from, self.rcpt_to, self._content, self.ref = batch.compose(batch.number, self._recipient, batch.now())
            except RowError as error:
                batch.settled(self._recipient, Result(Verdict.PERMANENT, 0, "", str(error), Stage.CONTENT))
            except Temporary as error:
                batch.settled(self._recipient, Result(Verdict.TEMPORARY, 0, "", str(error)[:250], Stage.CONTENT))
        return self._content

    def handing_over(self) -> bool:
        return self._batch.may_hand_over(self._recipient)

    def settled(self, result: Result) -> None:
        self._content = None
        self._batch.settled(self._recipient, result)


class BatchRun:
    """One opening of one batch."""

    def __init__(self, context: SendContext, number: int) -> None:
        self._context = context
        self.number = number
        self.compose = context.job.compose
        self.now = context.clock.now
        self._lease_end = 0.0
        self._settled: list[Settlement] = []
        self._outstanding = 0
        self._group_done: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Send all due messages of the batch. Returns when they are settled, the lease is lost, or the run stops. Raises the
        stores' errors."""
        context = self._context
        begun = context.clock.monotonic()
        opened = await context.threads(context.batches.open, context.job.ref, self.number, context.journal.owner)
        if opened is None:
            return
        self._lease_from(begun)
        keeping = asyncio.create_task(self._keep_lease(opened))
        try:
            await self._work(opened)
        except LeaseLost as lost:
            _log.warning("campaign.lease_lost", campaign=context.job.ref.campaign, batch=self.number, reason=str(lost))
        finally:
            self._lease_end = 0.0
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _work(self, opened: OpenBatch) -> None:
        context = self._context
        if not await self._settle_left_open(opened):
            await context.threads(context.batches.give_back, context.job.ref, opened)
            return
        work = await context.threads(context.messages.load, context.job.ref, opened.number, context.clock.now(), _LOAD)
        self._page = context.journal.page(opened.number, opened.fence)
        try:
            await self._send(opened, work)
        except LeaseLost:
            self._page.seal()  # the new holder of the batch waits to learn what was handed over
            raise
        self._page.close()

    async def _settle_left_open(self, opened: OpenBatch) -> bool:
        """Settle the group an earlier worker left open. False: the run stops, and that worker is still alive."""
        context = self._context
        patient_until = context.clock.monotonic() + context.batches.patience_s
        settle = partial(context.batches.settle_left_open, context.job.ref, opened, context.job.rules.policies)
        while not await context.threads(settle, wait=context.clock.monotonic() < patient_until):
            if context.stopping.is_set():
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def _send(self, opened: OpenBatch, work: Sequence[Recipient]) -> None:
        context = self._context
        begun = 0
        while begun < len(work) and not context.stopping.is_set():
            size = await context.rate_gate.group_size()
            candidates = work[begun : begun + size]
            begun += size
            group: list[Recipient] = []
            await self._durably(self._open_group, opened, candidates, group)
            await self._send_group(group)
        await self._durably(self._finish, opened)

    def _open_group(
        self, settled: Sequence[Settlement], opened: OpenBatch, candidates: Sequence[Recipient], group: list[Recipient]
    ) -> None:
        """Record the outcomes so far and open the next group. Recipients suppressed since the import are skipped."""
        allowed, skipped = self._without_suppressed(candidates, "suppressed since import")
        group[:] = allowed
        self._context.batches.record(self._context.job.ref, opened, [*settled, *skipped], group)

    def _finish(self, settled: Sequence[Settlement], opened: OpenBatch) -> None:
        self._context.batches.finish(self._context.job.ref, opened, settled)

    def _without_suppressed(self, candidates: Sequence[Recipient], reason: str) -> tuple[list[Recipient], list[Settlement]]:
        """The recipients that may be sent to, and the settlements of the others."""
        job, now = self._context.job, self._context.clock.now()
        asked = [(job.person(recipient), job.topic(recipient)) for recipient in candidates]
        allowed: list[Recipient] = []
        skipped: list[Settlement] = []
        for recipient, refused in zip(candidates, self._context.suppression.refused(job.ref.tenant, asked), strict=True):
            if refused:
                skipped.append(Settlement(recipient.key, MessageStatus.SKIPPED, recipient.attempt, now, reply=reason))
            else:
                allowed.append(recipient)
        return allowed, skipped

    async def _durably(
        self, write: Callable[Concatenate[Sequence[Settlement], P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Write the outcomes so far. A full disk gets a few seconds to find room: the outcomes are worth the wait."""
        context = self._context
        settled, self._settled = self._settled, []
        for attempt in range(1, _WRITE_TRIES + 1):
            begun = context.clock.monotonic()
            try:
                await context.threads(write, settled, *args, **kwargs)
            except Temporary:
                if attempt == _WRITE_TRIES:
                    self._settled = settled + self._settled
                    raise
                await asyncio.sleep(_WRITE_WAIT_S)
            else:
                self._lease_from(begun)
                return

    async def _send_group(self, group: Sequence[Recipient]) -> None:
        context = self._context
        if not group:
            return
        self._outstanding = len(group)
        self._group_done = asyncio.get_running_loop().create_future()
        submitted = 0
        async for part in context.rate_gate.release(group, context.stopping):
            for recipient in part:
                context.mailer.submit(BatchMessage(self, recipient))
            submitted += len(part)
        self._ended(len(group) - submitted)
        await self._group_done

    async def _keep_lease(self, opened: OpenBatch) -> None:
        """Extend the lease while a group takes long. A failure here is no error: the lease runs out, and `record` finds out."""
        context = self._context
        while True:
            await asyncio.sleep(context.batches.lease_ms / 3000)
            begun = context.clock.monotonic()
            try:
                await context.threads(context.batches.extend, context.job.ref, opened)
            except LeaseLost:
                self._lease_end = 0.0
                return
            except Temporary as error:
                _log.warning(
                    "campaign.lease_not_extended", campaign=context.job.ref.campaign, batch=self.number, reason=str(error)
                )
            else:
                self._lease_from(begun)

    def _lease_from(self, begun: float) -> None:
        """The lease counts from before the write began, so that it ends here before it ends in the store."""
        self._lease_end = begun + self._context.batches.lease_ms / 1000

    # Called by the batch's messages, on the event loop.

    def may_hand_over(self, recipient: Recipient) -> bool:
        """Journal that the message is handed over now. False if the lease has ended or the journal cannot be written: without
        the journal, a crash would leave the whole group in doubt."""
        if self._context.clock.monotonic() >= self._lease_end:
            return False
        try:
            self._page.handing(recipient.key)
        except Temporary as error:
            self._stop(error)
            return False
        return True

    def settled(self, recipient: Recipient, result: Result) -> None:
        """Keep the result of a message for the next `record`, and journal it."""
        context = self._context
        context.events.on_result(result)
        if result.verdict is Verdict.UNSENT and not context.stopping.is_set() and context.clock.monotonic() < self._lease_end:
            # The mailer gave it back unasked. Trying again at once could go on for ever, so it waits like a refused message.
            result = result._replace(verdict=Verdict.TEMPORARY)
        settlement = context.job.rules.settle(recipient, result, context.clock.now(), random.random())  # noqa: S311 - jitter
        if settlement is not None:
            self._settled.append(settlement)
            context.events.on_settled(recipient.address, settlement.status)
            try:
                self._page.answered(settlement)
            except Temporary as error:  # `record` may still succeed; if not, this answer is lost, and no further one must be
                self._stop(error)
        self._gone(recipient)

    def _gone(self, _recipient: Recipient) -> None:
        """The message is no longer in flight."""
        self._ended(1)

    def _stop(self, error: Temporary) -> None:
        """Hand nothing more over in this worker: the disk is full, for example."""
        if not self._context.stopping.is_set():
            _log.error("campaign.journal_failed", campaign=self._context.job.ref.campaign, reason=str(error))
            self._context.stopping.set()

    def _ended(self, count: int) -> None:
        self._outstanding -= count
        if not self._outstanding and self._group_done is not None and not self._group_done.done():
            self._group_done.set_result(None)
