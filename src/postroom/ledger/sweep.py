"""Changing messages of a whole campaign at once, under the same leases and fences as sending: nobody writes past anybody.

For verbs of operators (retry-failed, settle, cancel). Safe to repeat from any point: what is already changed is no longer found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.ledger.batches import Batches
from postroom.ledger.refusals import Refusals
from postroom.model.batch import BatchSnapshot, OpenBatch
from postroom.model.campaign import CampaignRef, Policies
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages

_PAGE = 500
_TRY_EVERY_S = 0.25
Change = Callable[[Recipient], Settlement]
Alive = Callable[[], bool]
"""Asked at least every few seconds: whether to go on."""


class StillSending(Unavailable):
    """A worker kept a batch for too long."""


def always() -> bool:
    """For callers whom nobody stops."""
    return True


class Swept(Protocol):
    """Whose messages: a campaign, say."""

    @property
    def ref(self) -> CampaignRef: ...

    @property
    def policies(self) -> Policies: ...


class Sweep:
    """See the module's text."""

    def __init__(
        self, messages: Messages, journals: Journals, clock: Clock, *, lease_ms: int, refusals: Refusals | None = None
    ) -> None:
        """`refusals`: see ledger.batches."""
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._lease_ms = lease_ms
        self._refusals = refusals

    def change(self, campaign: Swept, statuses: Collection[MessageStatus], change: Change, *, alive: Alive = always) -> int:
        """Settle every message in `statuses` as `change` says; how many, until `alive` ended it. `StillSending`: a worker kept a
        batch too long; repeat."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = Batches(self._messages, self._journals, self._clock, lease_ms=self._lease_ms, refusals=self._refusals)
        try:
            changed, after = 0, -1
            while page := self._messages.batches(ref, after=after, limit=_PAGE):
                after = page[-1].number
                for snapshot in page:
                    if _concerned(snapshot, statuses):
                        opened = self._open(batches, campaign, snapshot.number, alive=alive, owner=journal.owner)
                        if opened is None:
                            return changed
                        changed += self._change_batch(batches, ref, opened, statuses, change)
            return changed
        finally:
            journal.close()

    def visit(self, campaign: Swept, number: int, work: Callable[[Batches, OpenBatch], None], *, alive: Alive = always) -> bool:
        """Do something to one batch while it is nobody else's, its open group settled; False: `alive` ended it before.
        `StillSending` as in `change`."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = Batches(self._messages, self._journals, self._clock, lease_ms=self._lease_ms, refusals=self._refusals)
        try:
            opened = self._open(batches, campaign, number, alive=alive, owner=journal.owner)
            if opened is not None:
                work(batches, opened)
                batches.finish(ref, opened)
            return opened is not None
        finally:
            journal.close()

    def _open(self, batches: Batches, campaign: Swept, number: int, *, alive: Alive, owner: str) -> OpenBatch | None:
        """Take the batch, settled; a worker that is just letting go of it gets time to do so. None: `alive` ended it."""
        deadline = self._clock.monotonic() + batches.patience_s
        while alive():
            patient = self._clock.monotonic() < deadline
            opened = batches.open(campaign.ref, number, owner)
            if opened is not None and batches.settle_left_open(campaign.ref, opened, campaign.policies, wait=patient):
                return opened
            if not patient:
                what = f"batch {number} of campaign {campaign.ref.campaign}"
                raise StillSending(f"{what} is being sent; pause it, then try again")
            self._clock.sleep(_TRY_EVERY_S)
        return None

    def _change_batch(
        self, batches: Batches, ref: CampaignRef, opened: OpenBatch, statuses: Collection[MessageStatus], change: Change
    ) -> int:
        changed = 0
        while found := self._messages.load_state(ref, opened.number, statuses, _PAGE):
            batches.record(ref, opened, [change(recipient) for recipient in found], ())
            changed += len(found)
            if len(found) < _PAGE:
                break
        batches.finish(ref, opened)
        return changed


def _concerned(snapshot: BatchSnapshot, statuses: Collection[MessageStatus]) -> bool:
    """A batch in somebody's hands is counted anew when it is opened: its snapshot is from before."""
    return snapshot.owner is not None or any(getattr(snapshot.counts, status.label) for status in statuses)
