"""Composes the messages of a stream: what each is made of is loaded beforehand, off the event loop.

What cannot be loaded or compiled for good fails that message with the reason, and no other. Contents with large attachments
wait for their turn: those on the way hold no more than `_MOST_BYTES` together, or one alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from postroom.clock import Instant
from postroom.delivery.compose import Composed, RowError
from postroom.delivery.transactional import CompiledContent, CompiledContentCache, ContentStore, TransactionalCompiler
from postroom.errors import Permanent
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import Recipient
from postroom.model.stream import TransactionalValues

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
