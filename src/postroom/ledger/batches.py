"""Opening a batch under lease and fence, and settling the group that its previous worker left open.

What a crash leaves: an open group says which messages may be with the provider; its owner's journal page, if it is intact, says
which really are (ports.journal). For each key of the group without a recorded outcome:

    journal complete:  answered → as answered · handed over → unknown · neither → unchanged, it was never handed over
    journal lost:      all → unknown
    owner alive:       wait; it dies, or finds that its lease is lost and closes the journal; after `patience_s`, all → unknown

An owner that lost its lease without dying was stopped, its machine slept, or its clock was set. It hands over nothing more once
it looks at the time, so waiting for it costs only time and saves a whole group from becoming unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from postroom.clock import Clock, Instant
from postroom.ledger.auto_suppression import AutoSuppression
from postroom.model.batch import OpenBatch
from postroom.model.campaign import CampaignRef, Policies
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.platform.ports.journal import Handed, Journals, Trace
from postroom.platform.ports.messages import Messages

UNANSWERED = "handed to the provider, no answer seen"
UNCERTAIN = "perhaps handed to the provider: the worker was lost with its records"
_PATIENCE_MARGIN_S = 5.0


class BatchLeases:
    """Opens, records and closes a campaign's batches for one worker. Every write carries the batch's fence."""

    def __init__(
        self,
        messages: Messages,
        journals: Journals,
        clock: Clock,
        *,
        lease_ms: int,
        auto_suppression: AutoSuppression | None = None,
    ) -> None:
        """`lease_ms`: how long a lease lasts. `auto_suppression`: lists rejected addresses; None: they are not listed."""
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._auto_suppression = auto_suppression
        self.lease_ms = lease_ms

    def claim(self, ref: CampaignRef, owner: str, limit: int) -> list[int]:
        """Numbers of up to `limit` batches that have work now and no live lease."""
        dead = self._dead(ref, owner)
        return self._messages.due_batches(ref, self._clock.now(), limit, dead=dead)

    @property
    def patience_s(self) -> float:
        """How long to wait for the live owner of a group left open. The supervisor kills silent workers sooner."""
        return 3 * self.lease_ms / 1000 + _PATIENCE_MARGIN_S

    def open(self, ref: CampaignRef, batch: int, owner: str) -> OpenBatch | None:
        """Take the batch's lease; None if another worker holds it. Settle `left_open` before anything else."""
        now = self._clock.now()
        return self._messages.open(ref, batch, owner, now, lease_ms=self.lease_ms, dead=self._dead(ref, owner))

    def settle_left_open(self, ref: CampaignRef, opened: OpenBatch, policies: Policies, *, wait: bool) -> bool:
        """Settle the group that was left open, if any. False if its owner is alive and `wait` is set: call again later. Raises
        `LeaseLost`."""
        group = opened.left_open
        if group is None:
            return True
        trace = self._journals.read(ref.campaign, group.owner, opened.number, group.fence)
        if trace is Trace.ALIVE and wait:
            return False
        members = [each for each in self._messages.find(ref, opened.number, group.keys) if in_doubt(each, group.at)]
        now = self._clock.now()
        self.record(ref, opened, list(settle_group(members, trace, now, policies.unknown_due(now))), ())
        return True

    def record(self, ref: CampaignRef, opened: OpenBatch, settled: Sequence[Settlement], group: Sequence[Recipient]) -> None:
        """Store outcomes, then the next open group; both are durable when this returns. Raises `LeaseLost`."""
        if self._auto_suppression is not None:
            self._auto_suppression.add_rejected(ref, opened.number, settled)
        keys = [recipient.key for recipient in group]
        now = max(
            [self._clock.now(), *(each.due for each in group if each.due is not None)]
        )  # see `in_doubt`: clocks can be set back
        self._messages.record(ref, opened.number, opened.fence, settled, keys, now, lease_ms=self.lease_ms)

    def extend(self, ref: CampaignRef, opened: OpenBatch) -> None:
        """Extend the lease. Raises `LeaseLost`."""
        self._messages.extend(ref, opened.number, opened.fence, self._clock.now(), lease_ms=self.lease_ms)

    def finish(self, ref: CampaignRef, opened: OpenBatch, settled: Sequence[Settlement] = ()) -> None:
        """Store the last outcomes, close the group, recount and release the lease. Raises `LeaseLost`."""
        self.record(ref, opened, settled, ())
        self.give_back(ref, opened)

    def give_back(self, ref: CampaignRef, opened: OpenBatch) -> None:
        """Recount and release the lease; a group that was left open stays open. Raises `LeaseLost`."""
        self._messages.close(ref, opened.number, opened.fence)

    def _dead(self, ref: CampaignRef, owner: str) -> Collection[str]:
        return [name for name in self._journals.dead(ref.campaign) if name != owner]


def in_doubt(member: Recipient, since: Instant) -> bool:
    """Whether the owner of a group opened at `since` recorded no outcome for this member. A backend may have stored outcomes
    without closing the group (ports.messages); a member that is still due as of then has none."""
    return member.status is MessageStatus.PENDING or (member.due is not None and member.due <= since)


def settle_group(members: Sequence[Recipient], trace: Handed | Trace, now: Instant, due: Instant | None) -> Iterator[Settlement]:
    """The settlements of the members of a group left open that are in doubt."""
    for member in members:
        if not isinstance(trace, Handed):
            yield _unknown(member, UNCERTAIN, now, due)
        elif member.key in trace.answered:
            yield trace.answered[member.key]
        elif member.key in trace.in_flight:
            yield _unknown(member, UNANSWERED, now, due)


def _unknown(member: Recipient, reason: str, now: Instant, due: Instant | None) -> Settlement:
    return Settlement(member.key, MessageStatus.UNKNOWN, member.attempt + 1, now, due, 0, reason)
