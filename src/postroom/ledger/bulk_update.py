"""Bulk updates of a campaign's messages (retry-failed, settle, cancel) and erasing one, under the same leases and fences as
sending.

All are safe to repeat from any point: what is changed already is not found again.

Erasing a recipient (`MessageEraser`) skips the message first if it is still to be sent:

    find the message → open its batch, settle what was left open → skip it if it waits → erase it → recount, release the batch

A crash between any two steps leaves a waiting or skipped message that is not erased; erasing again continues from there.

`hold_streams` is for a restored installation: transactional messages that were waiting when the backup was made may have been
sent since, so they become `unknown` and are not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from postroom.clock import Clock
from postroom.errors import NotFound, Unavailable
from postroom.ledger import scheduler_messages
from postroom.ledger.auto_suppression import AutoSuppression
from postroom.ledger.batches import BatchLeases
from postroom.model.batch import BatchSnapshot, OpenBatch, batch_of
from postroom.model.campaign import CampaignRef, Policies
from postroom.model.ids import Key
from postroom.model.message import Message, MessageStatus, Recipient, Settlement
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.workflows import Workflows

_PAGE = 500
_TRY_EVERY_S = 0.25
SettleMessage = Callable[[Recipient], Settlement]
ShouldContinue = Callable[[], bool]
"""Called at least every few seconds; False ends the work."""


class StillSending(Unavailable):
    """A worker held a batch for too long."""


def never_stopped() -> bool:
    """The default `ShouldContinue`."""
    return True


class UpdateTarget(Protocol):
    """What is updated: a campaign, or a daily stream."""

    @property
    def ref(self) -> CampaignRef: ...

    @property
    def policies(self) -> Policies: ...


class BulkUpdate:
    """Settles many messages of a campaign, batch by batch."""

    def __init__(
        self,
        messages: Messages,
        journals: Journals,
        clock: Clock,
        *,
        lease_ms: int,
        auto_suppression: AutoSuppression | None = None,
    ) -> None:
        """`lease_ms` and `auto_suppression`: see `BatchLeases`."""
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._lease_ms = lease_ms
        self._auto_suppression = auto_suppression

    def change(
        self,
        campaign: UpdateTarget,
        statuses: Collection[MessageStatus],
        change: SettleMessage,
        *,
        alive: ShouldContinue = never_stopped,
    ) -> int:
        """Settle every message in `statuses` as `change` returns; how many, until `alive` returned False. Raises `StillSending`
        if a worker held a batch too long: call again."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = BatchLeases(
            self._messages, self._journals, self._clock, lease_ms=self._lease_ms, auto_suppression=self._auto_suppression
        )
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

    def visit(
        self,
        campaign: UpdateTarget,
        number: int,
        work: Callable[[BatchLeases, OpenBatch], None],
        *,
        alive: ShouldContinue = never_stopped,
    ) -> bool:
        """Call `work` with one batch under lease, its open group settled; False if `alive` ended it before. Raises
        `StillSending`."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = BatchLeases(
            self._messages, self._journals, self._clock, lease_ms=self._lease_ms, auto_suppression=self._auto_suppression
        )
        try:
            opened = self._open(batches, campaign, number, alive=alive, owner=journal.owner)
            if opened is not None:
                work(batches, opened)
                batches.finish(ref, opened)
            return opened is not None
        finally:
            journal.close()

    def _open(
        self, batches: BatchLeases, campaign: UpdateTarget, number: int, *, alive: ShouldContinue, owner: str
    ) -> OpenBatch | None:
        """Open the batch and settle its open group, waiting for a worker that holds it. None: `alive` ended it."""
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
        self,
        batches: BatchLeases,
        ref: CampaignRef,
        opened: OpenBatch,
        statuses: Collection[MessageStatus],
        change: SettleMessage,
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
    """Whether the batch may hold such messages. The snapshot of a leased batch is out of date: open it in any case."""
    return snapshot.owner is not None or any(getattr(snapshot.counts, status.label) for status in statuses)


_BATCHES_PAGE = 1_000
_WAITING = frozenset({MessageStatus.PENDING, MessageStatus.DEFERRED})
KeptValues = Callable[[Recipient], str]
"""Returns the values that an erased message keeps: a JSON array."""


def no_values(_recipient: Recipient) -> str:
    """The default `KeptValues`: a campaign's message keeps none of its row."""
    return "[]"


class MessageEraser:
    """Erases recipients from messages."""

    def __init__(self, messages: Messages, bulk_update: BulkUpdate, clock: Clock) -> None:
        self._messages = messages
        self._sweep = bulk_update
        self._clock = clock

    def find(self, ref: CampaignRef, key: Key, *, batches: int) -> Message | None:
        """The recipient's message in a campaign of `batches` batches (0: not known), erased or not; None if there is none."""
        try:
            return self._messages.get(ref, batch_of(key, batches or self._batches(ref)), key)
        except NotFound:
            return None

    def erase(
        self, swept: UpdateTarget, found: Message, *, kept: KeptValues = no_values, alive: ShouldContinue = never_stopped
    ) -> bool:
        """Erase the message's recipient; False if `alive` ended it before. Safe to repeat. Raises `StillSending`."""
        return self._sweep.visit(
            swept, found.batch, lambda batches, opened: self._erase(batches, swept.ref, opened, found.key, kept), alive=alive
        )

    def _erase(self, batches: BatchLeases, ref: CampaignRef, opened: OpenBatch, key: Key, kept: KeptValues) -> None:
        for recipient in self._messages.find(ref, opened.number, [key]):
            settled = self._at_rest(recipient)
            batches.record(ref, opened, [] if settled is None else [settled], ())
            self._messages.erase(ref, opened.number, opened.fence, key, self._clock.now(), values=kept(recipient))

    def _at_rest(self, recipient: Recipient) -> Settlement | None:
        """The settlement that ends all work on the message; None: it has ended."""
        if recipient.status in _WAITING:
            return Settlement(recipient.key, MessageStatus.SKIPPED, recipient.attempt, self._clock.now(), reply="erased")
        if recipient.status is MessageStatus.UNKNOWN and recipient.due is not None:
            return Settlement(recipient.key, MessageStatus.UNKNOWN, recipient.attempt, self._clock.now())
        return None

    def _batches(self, ref: CampaignRef) -> int:
        """The number of batches, counted: the record of an interrupted import does not have it. Raises `NotFound`."""
        last = -1
        while page := self._messages.batches(ref, after=last, limit=_BATCHES_PAGE):
            last = page[-1].number
        return last + 1


class _Held:
    """A stream, as far as Sweep asks."""

    def __init__(self, ref: CampaignRef) -> None:
        self.ref = ref
        self.policies = Policies()


def hold_streams(
    refs: Iterable[CampaignRef], messages: Messages, workflows: Workflows, *, bulk_update: BulkUpdate, clock: Clock, reason: str
) -> int:
    """Make all waiting messages of these streams `unknown`; how many. `reason` becomes their reply."""
    held = 0
    for ref in refs:
        messages.recount(ref)  # what was stored and not yet counted waits as well
        if messages.next_due(ref) is not None:
            held += bulk_update.change(_Held(ref), _WAITING, lambda recipient: _in_doubt(recipient, clock, reason))
        workflows.stop(scheduler_messages.STREAM, ref.campaign, reason)
    return held


def _in_doubt(recipient: Recipient, clock: Clock, reason: str) -> Settlement:
    return Settlement(recipient.key, MessageStatus.UNKNOWN, recipient.attempt, clock.now(), reply=reason)
