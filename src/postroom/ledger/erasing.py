"""Forgetting whom a message was for: what is still to be sent is skipped first, under the batch's lease and fence.

    find the message → open its batch, settle what was left open → skip it if it waits → erase it → count, give the batch back

A kill between any two of these leaves a message that waits, or is skipped, with its recipient: erasing again goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Clock
from postroom.errors import NotFound
from postroom.ledger.batches import Batches
from postroom.ledger.sweep import Alive, Sweep, Swept, always
from postroom.model.batch import OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus, Recipient, Settlement
from postroom.model.shard import Key, batch_of
from postroom.platform.ports.messages import Messages

_PAGE = 1_000
_WAITING = frozenset({MessageStatus.PENDING, MessageStatus.DEFERRED})
Kept = Callable[[Recipient], str]
"""What stays as a message's values: a JSON array."""


def nothing(_recipient: Recipient) -> str:
    """A campaign's message keeps none of its row."""
    return "[]"


class Erasing:
    """See the module's text."""

    def __init__(self, messages: Messages, sweep: Sweep, clock: Clock) -> None:
        self._messages = messages
        self._sweep = sweep
        self._clock = clock

    def find(self, ref: CampaignRef, key: Key, *, batches: int) -> Message | None:
        """A person's message in a campaign of so many batches (0: nobody knows), erased or not; None also where nothing is
        imported."""
        try:
            return self._messages.get(ref, batch_of(key, batches or self._batches(ref)), key)
        except NotFound:
            return None

    def erase(self, swept: Swept, found: Message, *, kept: Kept = nothing, alive: Alive = always) -> bool:
        """Erase it; False: `alive` ended it before. Again: harmless. `StillSending`."""
        return self._sweep.visit(
            swept, found.batch, lambda batches, opened: self._erase(batches, swept.ref, opened, found.key, kept), alive=alive
        )

    def _erase(self, batches: Batches, ref: CampaignRef, opened: OpenBatch, key: Key, kept: Kept) -> None:
        for recipient in self._messages.find(ref, opened.number, [key]):
            settled = self._at_rest(recipient)
            batches.record(ref, opened, [] if settled is None else [settled], ())
            self._messages.erase(ref, opened.number, opened.fence, key, self._clock.now(), values=kept(recipient))

    def _at_rest(self, recipient: Recipient) -> Settlement | None:
        """What makes of it something that nobody touches any more; None: it is so."""
        if recipient.status in _WAITING:
            return Settlement(recipient.key, MessageStatus.SKIPPED, recipient.attempt, self._clock.now(), reply="erased")
        if recipient.status is MessageStatus.UNKNOWN and recipient.due is not None:
            return Settlement(recipient.key, MessageStatus.UNKNOWN, recipient.attempt, self._clock.now())
        return None

    def _batches(self, ref: CampaignRef) -> int:
        """How many there are: the record of a campaign whose import was broken off does not know. `NotFound`."""
        last = -1
        while page := self._messages.batches(ref, after=last, limit=_PAGE):
            last = page[-1].number
        return last + 1
