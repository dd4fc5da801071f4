"""Transactional messages in one worker: batches as campaigns have them, but a slow recipient holds up no other.

A batch of a daily stream stays open while any of its messages is in flight, and its group *rolls*: each write records the
outcomes that have come and opens a group of the messages still in flight and those that arrived meanwhile. Everything else is
as in batch.py: intent before effect, and what a kill leaves.
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
from postroom.pipeline.sender.batch import BatchMessage, BatchRun
from postroom.pipeline.sender.context import SendContext
from postroom.pipeline.sender.run import Concurrency, Run

LINGER_S = 30.0
"""How long a worker keeps a stream's connections open after its last message. A function on AWS, which is paid by the second
and starts within one, stays for a shorter time (wiring)."""
_MOST_BYTES = 64_000_000
_HEAVY_BYTES = 1_000_000
_IDLE_S = 0.15  # how soon a message that comes after a pause is seen
_LOOK_S = 0.2  # the same in a batch that waits for a slow recipient
_LOAD = 500
_ONE_OPENING = 2_000  # messages; after that the batch is closed, counted and opened anew as soon as nothing is in flight
_MOST_IN_ONE = 20_000  # the same if something is in flight all the time


class StreamComposer:
    """Composes one stream's messages in one worker. What a message needs is loaded beforehand, on a thread.

    A message whose content cannot be loaded or compiled for good fails with the reason, and no other does. Large attachments
    wait: messages in flight hold at most `_MOST_BYTES` together, or one alone.
    """

    def __init__(self, ref: CampaignRef, contents: ContentStore, compiler: TransactionalCompiler, *, signed: bool) -> None:
        self._ref = ref
        self._contents = contents
        self._compiler = compiler
        self._signed = signed
        self._compiled = CompiledContentCache(_MOST_BYTES)
        self._ready: dict[Key, CompiledContent | RowError] = {}

    def prepare(self, candidates: Sequence[Recipient]) -> list[Recipient]:
        """Load what the candidates need. Returns the first of them that there is room for. Blocks: call it on a thread."""
        for number, recipient in enumerate(candidates):
            content = self._content(recipient)
            if isinstance(content, CompiledContent) and not self._has_room(content):
                return list(candidates[:number])
            self._ready[recipient.key] = content
        return list(candidates)

    def compose(self, batch: int, recipient: Recipient, now: Instant) -> Composed:
        """The message of a prepared recipient (context.SendJob.compose)."""
        content = self._ready[recipient.key]
        if isinstance(content, RowError):
            raise content
        return content.compose(batch, recipient, now)

    def topic(self, recipient: Recipient) -> str | None:
        """The topic of a prepared recipient's message."""
        content = self._ready[recipient.key]
        return content.topic if isinstance(content, CompiledContent) else None

    def forget(self, recipient: Recipient) -> None:
        """The recipient's message is not composed any more."""
        self._ready.pop(recipient.key, None)

    def _content(self, recipient: Recipient) -> CompiledContent | RowError:
        try:
            digest = TransactionalValues.parse(recipient.values).digest
            return self._compiled.get(self._ref, digest, lambda: self._compile(digest))
        except Permanent as error:
            return RowError(str(error))

    def _compile(self, digest: str) -> CompiledContent:
        return self._compiler.compile(self._ref, self._contents.get(self._ref, digest), files=True, signed=self._signed)

    def _has_room(self, content: CompiledContent) -> bool:
        if content.weight < _HEAVY_BYTES:
            return True
        held = {id(each): each.weight for each in list(self._ready.values()) if isinstance(each, CompiledContent)}
        return id(content) in held or not held or sum(held.values()) + content.weight <= _MOST_BYTES


class StreamPolicy:
    """A stream is sent while its provider is unchanged (run.RunPolicy); it is over when it has owed nothing for `linger_s`."""

    def __init__(
        self, ref: CampaignRef, streams: DailyStreams, unchanged: Callable[[], bool], *, linger_s: float = LINGER_S
    ) -> None:
        """`unchanged`: whether mail still leaves by the same route; if not, the run must begin anew."""
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

    def __init__(self, context: SendContext, number: int, composer: StreamComposer) -> None:
        super().__init__(context, number)
        self._composer = composer
        self._in_flight: dict[Key, Recipient] = {}
        self._changed = asyncio.Event()
        self._releasing: asyncio.Task[None] | None = None
        self._begun = 0

    async def _send(self, opened: OpenBatch, work: Sequence[Recipient]) -> None:
        try:
            while True:
                group = await self._take(work)
                if group or self._settled:
                    await self._roll(opened, group)
                if not self._in_flight and not self._settled:
                    break
                await self._wait()
                work = await self._load(opened)
        except LeaseLost:
            self._lease_end = 0.0  # hand nothing more over, and wait for what was, so that the journal is complete
            await self._all_settled()
            raise
        finally:
            if self._releasing is not None:
                self._releasing.cancel()  # a store that failed ends the batch: no further message may follow those in flight
        await self._durably(self._finish, opened)

    async def _take(self, work: Sequence[Recipient]) -> list[Recipient]:
        """The due recipients that may be sent to next."""
        context, releasing = self._context, self._releasing
        if releasing is not None:
            if not releasing.done():
                return []
            releasing.result()
        room = min(GROUP_SIZE - len(self._in_flight), await context.rate_gate.group_size())
        health = context.mailer.health()
        if not health.open:
            room = 1 if health.retry_in_s <= 0 and not self._in_flight else 0
        if self._ends:
            room = 0
        # `work` was read before the last outcomes were written: in it those messages are still due
        known = self._in_flight.keys() | {settlement.key for settlement in self._settled}
        candidates = [recipient for recipient in work if recipient.key not in known][: max(0, room)]
        return await context.threads(self._composer.prepare, candidates) if candidates else []

    async def _roll(self, opened: OpenBatch, group: Sequence[Recipient]) -> None:
        """Record the outcomes and the next group, then send the group."""
        allowed: list[Recipient] = []
        await self._durably(self._open_rolling, opened, list(self._in_flight.values()), group, allowed)
        for recipient in set(group).difference(allowed):
            self._composer.forget(recipient)
        if allowed:
            self._begun += len(allowed)
            self._in_flight |= {recipient.key: recipient for recipient in allowed}
            self._releasing = asyncio.create_task(self._release(allowed))

    def _open_rolling(
        self,
        settled: Sequence[Settlement],
        opened: OpenBatch,
        in_flight: Sequence[Recipient],
        candidates: Sequence[Recipient],
        group: list[Recipient],
    ) -> None:
        group[:], skipped = self._without_suppressed(candidates, "suppressed since it was accepted")
        self._context.batches.record(self._context.job.ref, opened, [*settled, *skipped], [*in_flight, *group])

    async def _release(self, group: Sequence[Recipient]) -> None:
        """Submit to the mailer as the rate allows."""
        submitted = 0
        try:
            async for part in self._context.rate_gate.release(group, self._context.stopping):
                submitted += len(part)
                for recipient in part:
                    self._context.mailer.submit(BatchMessage(self, recipient))
        finally:
            for recipient in group[submitted:]:
                self._gone(recipient)

    async def _load(self, opened: OpenBatch) -> list[Recipient]:
        context = self._context
        if self._ends:
            return []
        return await context.threads(context.messages.load, context.job.ref, opened.number, context.clock.now(), _LOAD)

    @property
    def _ends(self) -> bool:
        """Whether no new message is taken in this opening."""
        enough = _MOST_IN_ONE if self._in_flight else _ONE_OPENING
        return self._context.stopping.is_set() or self._begun >= enough

    async def _wait(self) -> None:
        """Wait for an outcome, or a moment."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _LOOK_S)
        self._changed.clear()

    async def _all_settled(self) -> None:
        if self._releasing is not None:
            self._releasing.cancel()
            with suppress(asyncio.CancelledError):
                await self._releasing
        while self._in_flight:
            await self._wait()

    def _gone(self, recipient: Recipient) -> None:
        self._in_flight.pop(recipient.key, None)
        self._composer.forget(recipient)
        self._changed.set()


def stream_run(context: SendContext, policy: StreamPolicy, composer: StreamComposer, *, drain_s: float) -> Run:
    """The run of a stream. Every batch may be open at once, because each may wait for a slow recipient."""
    batches = stream_batches(context.job.ref.campaign)
    concurrency = Concurrency(usual=batches, most=batches, idle_s=_IDLE_S)
    return Run(context, policy, concurrency, batch=lambda number: StreamBatch(context, number, composer).run(), drain_s=drain_s)
