"""One message on its way through the mailer.

One batch, under lease: a group at a time, intent before effect, outcomes before the next intent.

What a kill leaves, line by line: before the first `record`, nothing. After it, an open group: its messages are in doubt as
far as the journal does not say otherwise (ledger.batches). After the last `record`, a lease that the next opener takes over.
A worker that is too slow loses its lease: from that moment on nothing more is handed over (`may_hand_over`), and nothing that
it still learns is written, for whoever has the batch now has decided.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Concatenate, ParamSpec, Protocol

from postroom.clock import Instant
from postroom.delivery.compose import Composed, RowError
from postroom.errors import LeaseLost, Temporary
from postroom.model.batch import OpenBatch
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.model.tokens import MessageRef
from postroom.pipeline.sender.context import SendContext
from postroom.platform.mail.port import Result, Stage, Verdict


class Desk(Protocol):
    """What an outgoing message asks of its batch."""

    def compose(self, recipient: Recipient) -> Composed:
        """`RowError`: never; `Temporary`: not now (it cannot be signed)."""
        ...

    def may_hand_over(self, recipient: Recipient) -> bool:
        """Journal it, while the lease holds."""
        ...

    def settled(self, recipient: Recipient, result: Result) -> None:
        """Its end."""
        ...


class Outgoing:
    """See platform.mail.port.OutboundMessage. Composed once, when a connection first asks for its envelope."""

    __slots__ = ("_composed", "_desk", "_recipient", "mail_from", "rcpt_to", "ref")

    def __init__(self, desk: Desk, recipient: Recipient) -> None:
        self._desk = desk
        self._recipient = recipient
        self._composed: bytes | None = None
        self.mail_from = ""
        self.rcpt_to = recipient.address
        self.ref: MessageRef | None = None

    def compose(self) -> bytes | None:
        if self._composed is None:
            try:
                self.mail_from, self.rcpt_to, self._composed, self.ref = self._desk.compose(self._recipient)
            except RowError as error:
                self._desk.settled(self._recipient, Result(Verdict.PERMANENT, 0, "", str(error), Stage.CONTENT))
            except Temporary as error:
                self._desk.settled(self._recipient, Result(Verdict.TEMPORARY, 0, "", str(error)[:250], Stage.CONTENT))
        return self._composed

    def handing_over(self) -> bool:
        return self._desk.may_hand_over(self._recipient)

    def settled(self, result: Result) -> None:
        self._composed = None
        self._desk.settled(self._recipient, result)


_LOAD = 2_000  # messages of one batch in one opening; should it hold more, the rest is due again


_LOOK_S = 0.25


_WRITE_TRIES = 6


_WRITE_WAIT_S = 0.5


_log = logging.getLogger(__name__)


P = ParamSpec("P")


class BatchRun:
    """One opening of one batch. Also the desk (outgoing.Desk) of its messages."""

    def __init__(self, means: SendContext, batch: int) -> None:
        self._means = means
        self._number = batch
        self._lease_end = 0.0
        self._settled: list[Settlement] = []
        self._outstanding = 0
        self._group_done: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Send what the batch owes; returns when it is done, lost, or stopping. Errors of the stores are raised."""
        means = self._means
        begun = means.clock.monotonic()
        opened = await means.threads(means.batches.open, means.ref, self._number, means.journal.owner)
        if opened is None:
            return
        self._lease_from(begun)
        keeping = asyncio.create_task(self._keep_lease(opened))
        try:
            await self._work(opened)
        except LeaseLost as lost:
            _log.warning("campaign %s: %s; its work is somebody else's now", means.ref.campaign, lost)
        finally:
            self._lease_end = 0.0
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _work(self, opened: OpenBatch) -> None:
        means = self._means
        if not await self._settle_left_open(opened):
            await means.threads(means.batches.give_back, means.ref, opened)
            return
        work = await means.threads(means.messages.load, means.ref, opened.number, means.clock.now(), _LOAD)
        self._page = means.journal.page(opened.number, opened.fence)
        try:
            await self._send(opened, work)
        except LeaseLost:
            self._page.seal()  # whoever has the batch now is waiting to know what was handed over
            raise
        self._page.close()

    async def _settle_left_open(self, opened: OpenBatch) -> bool:
        """Whether it is settled; False: stopping, and its owner is still alive."""
        means = self._means
        patient_until = means.clock.monotonic() + means.batches.patience_s
        settle = partial(means.batches.settle_left_open, means.ref, opened, means.rules.policies)
        while not await means.threads(settle, wait=means.clock.monotonic() < patient_until):
            if means.stopping.is_set():
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def _send(self, opened: OpenBatch, work: Sequence[Recipient]) -> None:
        means = self._means
        begun = 0
        while begun < len(work) and not means.stopping.is_set():
            size = await means.rate_gate.group_size()
            candidates = work[begun : begun + size]
            begun += size
            group: list[Recipient] = []
            await self._durably(self._open_group, opened, candidates, group)
            await self._send_group(group)
        await self._durably(self._finish, opened)

    def _open_group(
        self, settled: Sequence[Settlement], opened: OpenBatch, candidates: Sequence[Recipient], group: list[Recipient]
    ) -> None:
        """Outcomes so far and the next group, without those who were suppressed since the import: they are skipped."""
        means, now = self._means, self._means.clock.now()
        welcome, skipped = without_suppressed(means, candidates, now, "suppressed since import")
        group[:] = welcome
        means.batches.record(means.ref, opened, [*settled, *skipped], group)

    def _finish(self, settled: Sequence[Settlement], opened: OpenBatch) -> None:
        self._means.batches.finish(self._means.ref, opened, settled)

    async def _durably(
        self, write: Callable[Concatenate[Sequence[Settlement], P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Write the outcomes so far. A full disk gets a few seconds to find room: the outcomes are worth it."""
        means = self._means
        settled, self._settled = self._settled, []
        for attempt in range(1, _WRITE_TRIES + 1):
            begun = means.clock.monotonic()
            try:
                await means.threads(write, settled, *args, **kwargs)
            except Temporary:
                if attempt == _WRITE_TRIES:
                    self._settled = settled + self._settled
                    raise
                await asyncio.sleep(_WRITE_WAIT_S)
            else:
                self._lease_from(begun)
                return

    async def _send_group(self, group: Sequence[Recipient]) -> None:
        means = self._means
        if not group:
            return
        self._outstanding = len(group)
        self._group_done = asyncio.get_running_loop().create_future()
        submitted = 0
        async for part in means.rate_gate.release(group, means.stopping):
            for recipient in part:
                means.mailer.submit(Outgoing(self, recipient))
            submitted += len(part)
        self._ended(len(group) - submitted)
        await self._group_done

    async def _keep_lease(self, opened: OpenBatch) -> None:
        """Extend while a group takes long. Failing is no error here: the lease then runs out, and `record` finds out."""
        means = self._means
        while True:
            await asyncio.sleep(means.batches.lease_ms / 3000)
            begun = means.clock.monotonic()
            try:
                await means.threads(means.batches.extend, means.ref, opened)
            except LeaseLost:
                self._lease_end = 0.0
                return
            except Temporary as error:
                _log.warning("campaign %s, batch %d: lease not extended: %s", means.ref.campaign, opened.number, error)
            else:
                self._lease_from(begun)

    def _lease_from(self, begun: float) -> None:
        """The lease counts from before the write began, so that it ends here before it ends in the store."""
        self._lease_end = begun + self._means.batches.lease_ms / 1000

    # The desk of the batch's messages: called by the mailer, on the event loop.

    def compose(self, recipient: Recipient) -> Composed:
        """See outgoing.Desk."""
        return self._means.composer.compose(self._number, recipient, self._means.clock.now())

    def may_hand_over(self, recipient: Recipient) -> bool:
        """See outgoing.Desk. A journal that cannot be written stops the hand-over: without it the group could not be narrowed."""
        if self._means.clock.monotonic() >= self._lease_end:
            return False
        try:
            self._page.handing(recipient.key)
        except Temporary as error:
            self._stop(error)
            return False
        return True

    def settled(self, recipient: Recipient, result: Result) -> None:
        """See outgoing.Desk."""
        means = self._means
        means.on_result(result)
        if result.verdict is Verdict.UNSENT and not means.stopping.is_set() and means.clock.monotonic() < self._lease_end:
            # The mailer gave up on it, and nobody asked it to: at once again would be for ever, so it waits like one refused.
            result = result._replace(verdict=Verdict.TEMPORARY)
        settlement = means.rules.settle(recipient, result, means.clock.now(), random.random())  # noqa: S311 - jitter
        if settlement is not None:
            self._settled.append(settlement)
            means.counted(recipient.address, settlement.status)
            try:
                self._page.answered(settlement)
            except Temporary as error:  # `record` may still manage; if not, this answer is lost, and no other shall be
                self._stop(error)
        self._gone(recipient)

    def _gone(self, _recipient: Recipient) -> None:
        """It is no longer on its way."""
        self._ended(1)

    def _stop(self, error: Temporary) -> None:
        """Hand nothing more over in this worker: the disk is full, say."""
        if not self._means.stopping.is_set():
            _log.error("campaign %s: nothing more is sent: %s", self._means.ref.campaign, error)
            self._means.stopping.set()

    def _ended(self, count: int) -> None:
        self._outstanding -= count
        if not self._outstanding and self._group_done is not None and not self._group_done.done():
            self._group_done.set_result(None)


def without_suppressed(
    means: SendContext, candidates: Sequence[Recipient], now: Instant, reason: str
) -> tuple[list[Recipient], list[Settlement]]:
    """Who may be written to, and what becomes of the others."""
    asked = [(means.person(recipient), means.topic(recipient)) for recipient in candidates]
    welcome: list[Recipient] = []
    skipped: list[Settlement] = []
    for recipient, refused in zip(candidates, means.suppression.refused(means.ref.tenant, asked), strict=True):
        if refused:
            skipped.append(Settlement(recipient.key, MessageStatus.SKIPPED, recipient.attempt, now, reply=reason))
        else:
            welcome.append(recipient)
    return welcome, skipped
