"""Composes the messages of a stream: what each is made of is loaded beforehand, off the event loop.

What cannot be loaded or compiled for good fails that message with the reason, and no other. Contents with large attachments
wait for their turn: those on the way hold no more than `_MOST_BYTES` together, or one alone.

Single messages in one worker: batches as campaigns have them, but whoever is slow holds up nobody else.

A batch of a stream is held open while anybody in it is on the way, and its group *rolls*: each write records the outcomes that
have come, and opens a group of those still on their way and those who arrived meanwhile. Everything else is as in batch.py:
intent before effect, and what a kill leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from postroom.clock import Instant
from postroom.delivery.compose import Composed, RowError
from postroom.delivery.transactional import CompiledContent, CompiledContentCache, ContentStore, TransactionalCompiler
from postroom.errors import LeaseLost, Permanent
from postroom.ledger.streams import DailyStreams
from postroom.model.batch import GROUP_SIZE, OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import Recipient, Settlement
from postroom.model.stream import TransactionalValues, stream_batches
from postroom.pipeline.sender.batch import BatchRun, Outgoing, without_suppressed
from postroom.pipeline.sender.context import SendContext
from postroom.pipeline.sender.run import Concurrency, Run

_MOST_BYTES = 64_000_000


_HEAVY_BYTES = 1_000_000


class StreamComposer:
    """One stream's, in one worker. See means.Composes."""

    def __init__(self, ref: CampaignRef, contents: ContentStore, singles: TransactionalCompiler, *, signed: bool) -> None:
        self._ref = ref
        self._contents = contents
        self._singles = singles
        self._signed = signed
        self._compiled = CompiledContentCache(_MOST_BYTES)
        self._ready: dict[Key, CompiledContent | RowError] = {}

    def prepare(self, candidates: Sequence[Recipient]) -> list[Recipient]:
        """Load what they need; those at the front for whom there is room. Blocks: call it off the loop."""
        for number, recipient in enumerate(candidates):
            single = self._single(recipient)
            if isinstance(single, CompiledContent) and not self._has_room(single):
                return list(candidates[:number])
            self._ready[recipient.key] = single
        return list(candidates)

    def compose(self, batch: int, recipient: Recipient, now: Instant) -> Composed:
        """See means.Composes; of recipients that are prepared."""
        single = self._ready[recipient.key]
        if isinstance(single, RowError):
            raise single
        return single.compose(batch, recipient, now)

    def topic(self, recipient: Recipient) -> str | None:
        """What their message is about; of recipients that are prepared."""
        single = self._ready[recipient.key]
        return single.topic if isinstance(single, CompiledContent) else None

    def forget(self, recipient: Recipient) -> None:
        """It is composed no more."""
        self._ready.pop(recipient.key, None)

    def _single(self, recipient: Recipient) -> CompiledContent | RowError:
        try:
            digest = TransactionalValues.parse(recipient.values).digest
            return self._compiled.get(self._ref, digest, lambda: self._compile(digest))
        except Permanent as error:
            return RowError(str(error))

    def _compile(self, digest: str) -> CompiledContent:
        return self._singles.compile(self._ref, self._contents.get(self._ref, digest), files=True, signed=self._signed)

    def _has_room(self, single: CompiledContent) -> bool:
        if single.weight < _HEAVY_BYTES:
            return True
        held = {id(each): each.weight for each in list(self._ready.values()) if isinstance(each, CompiledContent)}
        return id(single) in held or not held or sum(held.values()) + single.weight <= _MOST_BYTES


LINGER_S = 30.0


"""How long a worker stays with a stream that owes nothing: its connections are ready for the next message. A function, which is
paid by the second and starts within one, stays for a shorter time (wiring.sending)."""


_IDLE_S = 0.15  # how soon a message is seen that comes after a pause


_LOOK_S = 0.2  # the same in a batch that waits for somebody slow


_LOAD = 500


_ONE_OPENING = 2_000  # messages: then, as soon as nobody is on the way, the batch is counted and its journal's page begun anew


_MOST_IN_ONE = 20_000  # with somebody on the way all the time


class StreamPolicy:
    """A stream as the cause of a run (run.Cause): over when it has owed nothing for a while."""

    def __init__(
        self, ref: CampaignRef, streams: DailyStreams, unchanged: Callable[[], bool], *, linger_s: float = LINGER_S
    ) -> None:
        """`unchanged`: whether mail still leaves as it did when the run began; else it is to begin anew."""
        self._linger_s = linger_s
        self._ref = ref
        self._streams = streams
        self._unchanged = unchanged

    def wanted(self) -> bool:
        return self._unchanged()

    def over(self, idle_s: float) -> bool:
        return idle_s >= self._linger_s and not self._streams.owes(self._ref)


class StreamBatch(BatchRun):
    """One opening of one batch of a stream."""

    def __init__(self, means: SendContext, batch: int, composer: StreamComposer) -> None:
        super().__init__(means, batch)
        self._composer = composer
        self._on_the_way: dict[Key, Recipient] = {}
        self._news = asyncio.Event()
        self._releasing: asyncio.Task[None] | None = None
        self._begun = 0

    async def _send(self, opened: OpenBatch, work: Sequence[Recipient]) -> None:
        try:
            while True:
                group = await self._take(work)
                if group or self._settled:
                    await self._roll(opened, group)
                if not self._on_the_way and not self._settled:
                    break
                await self._wait()
                work = await self._load(opened)
        except LeaseLost:
            self._lease_end = 0.0  # nothing more is handed over; what was is waited for, so that the journal tells all
            await self._all_settled()
            raise
        finally:
            if self._releasing is not None:
                self._releasing.cancel()  # a store that failed ends the batch: nobody is to follow those on the way
        await self._durably(self._finish, opened)

    async def _take(self, work: Sequence[Recipient]) -> list[Recipient]:
        """Of those who are due, who may be sent to next."""
        means, releasing = self._means, self._releasing
        if releasing is not None:
            if not releasing.done():
                return []
            releasing.result()
        room = min(GROUP_SIZE - len(self._on_the_way), await means.rate_gate.group_size())
        health = means.mailer.health()
        if not health.open:
            room = 1 if health.retry_in_s <= 0 and not self._on_the_way else 0
        if self._ends:
            room = 0
        # `work` was read before the last outcomes were written: to it those are still due
        known = self._on_the_way.keys() | {settlement.key for settlement in self._settled}
        candidates = [recipient for recipient in work if recipient.key not in known][: max(0, room)]
        return await means.threads(self._composer.prepare, candidates) if candidates else []

    async def _roll(self, opened: OpenBatch, group: Sequence[Recipient]) -> None:
        """Outcomes, and the next group; then it is on its way."""
        welcome: list[Recipient] = []
        await self._durably(self._open_rolling, opened, list(self._on_the_way.values()), group, welcome)
        for recipient in set(group).difference(welcome):
            self._composer.forget(recipient)
        if welcome:
            self._begun += len(welcome)
            self._on_the_way |= {recipient.key: recipient for recipient in welcome}
            self._releasing = asyncio.create_task(self._release(welcome))

    def _open_rolling(
        self,
        settled: Sequence[Settlement],
        opened: OpenBatch,
        still: Sequence[Recipient],
        candidates: Sequence[Recipient],
        group: list[Recipient],
    ) -> None:
        means = self._means
        now = means.clock.now()
        group[:], skipped = without_suppressed(means, candidates, now, "suppressed since it was accepted")
        means.batches.record(means.ref, opened, [*settled, *skipped], [*still, *group])

    async def _release(self, group: Sequence[Recipient]) -> None:
        """Into the mailer's line, as the pace allows."""
        submitted = 0
        try:
            async for part in self._means.rate_gate.release(group, self._means.stopping):
                submitted += len(part)
                for recipient in part:
                    self._means.mailer.submit(Outgoing(self, recipient))
        finally:
            for recipient in group[submitted:]:
                self._gone(recipient)

    async def _load(self, opened: OpenBatch) -> list[Recipient]:
        means = self._means
        if self._ends:
            return []
        return await means.threads(means.messages.load, means.ref, opened.number, means.clock.now(), _LOAD)

    @property
    def _ends(self) -> bool:
        """Whether nobody new is taken in this opening."""
        enough = _MOST_IN_ONE if self._on_the_way else _ONE_OPENING
        return self._means.stopping.is_set() or self._begun >= enough

    async def _wait(self) -> None:
        """For an outcome, or a moment."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), _LOOK_S)
        self._news.clear()

    async def _all_settled(self) -> None:
        if self._releasing is not None:
            self._releasing.cancel()
            with suppress(asyncio.CancelledError):
                await self._releasing
        while self._on_the_way:
            await self._wait()

    def _gone(self, recipient: Recipient) -> None:
        self._on_the_way.pop(recipient.key, None)
        self._composer.forget(recipient)
        self._news.set()


def stream_run(means: SendContext, cause: StreamPolicy, composer: StreamComposer, *, drain_s: float) -> Run:
    """One stream's: every batch may be open at once, for each may wait for somebody slow."""
    batches = stream_batches(means.ref.campaign)
    reach = Concurrency(usual=batches, most=batches, idle_s=_IDLE_S)
    return Run(means, cause, reach, batch=lambda number: StreamBatch(means, number, composer).run(), drain_s=drain_s)
