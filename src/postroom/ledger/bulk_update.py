"""Changing messages of a whole campaign at once, under the same leases and fences as sending: nobody writes past anybody.

For verbs of operators (retry-failed, settle, cancel). Safe to repeat from any point: what is already changed is no longer found.

Forgetting whom a message was for: what is still to be sent is skipped first, under the batch's lease and fence.

    find the message → open its batch, settle what was left open → skip it if it waits → erase it → count, give the batch back

A kill between any two of these leaves a message that waits, or is skipped, with its recipient: erasing again goes on from there.

Single messages of a restored installation: whoever was waiting in the copy may have got theirs since, so nobody is sent to.

They become `unknown`, which is what is known of them: reported, and not sent again. Safe to repeat from any point.
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


"""Asked at least every few seconds: whether to go on."""


class StillSending(Unavailable):
    """A worker kept a batch for too long."""


def never_stopped() -> bool:
    """For callers whom nobody stops."""
    return True


class UpdateTarget(Protocol):
    """Whose messages: a campaign, say."""

    @property
    def ref(self) -> CampaignRef: ...

    @property
    def policies(self) -> Policies: ...


class BulkUpdate:
    """See the module's text."""

    def __init__(
        self, messages: Messages, journals: Journals, clock: Clock, *, lease_ms: int, refusals: AutoSuppression | None = None
    ) -> None:
        """`refusals`: see ledger.batches."""
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._lease_ms = lease_ms
        self._refusals = refusals

    def change(
        self,
        campaign: UpdateTarget,
        statuses: Collection[MessageStatus],
        change: SettleMessage,
        *,
        alive: ShouldContinue = never_stopped,
    ) -> int:
        """Settle every message in `statuses` as `change` says; how many, until `alive` ended it. `StillSending`: a worker kept a
        batch too long; repeat."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = BatchLeases(self._messages, self._journals, self._clock, lease_ms=self._lease_ms, refusals=self._refusals)
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
        """Do something to one batch while it is nobody else's, its open group settled; False: `alive` ended it before.
        `StillSending` as in `change`."""
        ref = campaign.ref
        journal = self._journals.begin(ref.campaign)
        batches = BatchLeases(self._messages, self._journals, self._clock, lease_ms=self._lease_ms, refusals=self._refusals)
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
    """A batch in somebody's hands is counted anew when it is opened: its snapshot is from before."""
    return snapshot.owner is not None or any(getattr(snapshot.counts, status.label) for status in statuses)


_BATCHES_PAGE = 1_000


_WAITING = frozenset({MessageStatus.PENDING, MessageStatus.DEFERRED})


KeptValues = Callable[[Recipient], str]


"""What stays as a message's values: a JSON array."""


def no_values(_recipient: Recipient) -> str:
    """A campaign's message keeps none of its row."""
    return "[]"


class MessageEraser:
    """See the module's text."""

    def __init__(self, messages: Messages, sweep: BulkUpdate, clock: Clock) -> None:
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

    def erase(
        self, swept: UpdateTarget, found: Message, *, kept: KeptValues = no_values, alive: ShouldContinue = never_stopped
    ) -> bool:
        """Erase it; False: `alive` ended it before. Again: harmless. `StillSending`."""
        return self._sweep.visit(
            swept, found.batch, lambda batches, opened: self._erase(batches, swept.ref, opened, found.key, kept), alive=alive
        )

    def _erase(self, batches: BatchLeases, ref: CampaignRef, opened: OpenBatch, key: Key, kept: KeptValues) -> None:
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
        while page := self._messages.batches(ref, after=last, limit=_BATCHES_PAGE):
            last = page[-1].number
        return last + 1


class _Held:
    """A stream, as far as Sweep asks."""

    def __init__(self, ref: CampaignRef) -> None:
        self.ref = ref
        self.policies = Policies()


def hold_streams(
    refs: Iterable[CampaignRef], messages: Messages, workflows: Workflows, *, sweep: BulkUpdate, clock: Clock, reason: str
) -> int:
    """Put everybody who waits in these streams in doubt; how many."""
    held = 0
    for ref in refs:
        messages.recount(ref)  # what was stored and not yet counted waits as well
        if messages.next_due(ref) is not None:
            held += sweep.change(_Held(ref), _WAITING, lambda recipient: _in_doubt(recipient, clock, reason))
        workflows.stop(scheduler_messages.STREAM, ref.campaign, reason)
    return held


def _in_doubt(recipient: Recipient, clock: Clock, reason: str) -> Settlement:
    return Settlement(recipient.key, MessageStatus.UNKNOWN, recipient.attempt, clock.now(), reply=reason)
