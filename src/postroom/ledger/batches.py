"""Opening a batch, and settling the group that its previous worker left open.

What a crash leaves: an open group says who may be with the provider; its owner's journal page, if it can be trusted, says
who really is (ports.journal). From the two follows, for each key of the group that is not recorded yet:

    page finished:  answered → as answered · handed over → unknown · neither → as it stood, it was never at risk
    page lost:      all → unknown
    owner alive:    wait a while: it dies, or finds that its lease is lost and seals the page; after that, all → unknown

An owner that lost its lease without dying is one that was stopped, or whose machine slept, or whose clock was set. It hands
over nothing more once it looks at the time, so waiting for it costs nothing but time, and saves a whole group from doubt.
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
    """One worker's hand on a campaign's batches."""

    def __init__(
        self, messages: Messages, journals: Journals, clock: Clock, *, lease_ms: int, refusals: AutoSuppression | None = None
    ) -> None:
        """`refusals`: who enters refused addresses on the suppression list; None: nobody."""
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._refusals = refusals
        self.lease_ms = lease_ms

    def claim(self, ref: CampaignRef, owner: str, limit: int) -> list[int]:
        """Batches worth opening now."""
        dead = self._dead(ref, owner)
        return self._messages.due_batches(ref, self._clock.now(), limit, dead=dead)

    @property
    def patience_s(self) -> float:
        """How long a group's owner that lives on is waited for: a silent worker is killed before that (entrypoints.runner)."""
        return 3 * self.lease_ms / 1000 + _PATIENCE_MARGIN_S

    def open(self, ref: CampaignRef, batch: int, owner: str) -> OpenBatch | None:
        """Take the batch; None: somebody else has it. What it holds open is to be settled before anything else."""
        now = self._clock.now()
        return self._messages.open(ref, batch, owner, now, lease_ms=self.lease_ms, dead=self._dead(ref, owner))

    def settle_left_open(self, ref: CampaignRef, opened: OpenBatch, policies: Policies, *, wait: bool) -> bool:
        """Settle the group that was left open, if there is one. False: its owner is still alive, and `wait` says that there is
        time; ask again. `LeaseLost`."""
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
        """Outcomes, then the next group: both durable when this returns. `LeaseLost`."""
        if self._refusals is not None:
            self._refusals.add_rejected(ref, opened.number, settled)
        keys = [recipient.key for recipient in group]
        now = max([self._clock.now(), *(each.due for each in group if each.due is not None)])  # see `in_doubt`: clocks are set
        self._messages.record(ref, opened.number, opened.fence, settled, keys, now, lease_ms=self.lease_ms)

    def extend(self, ref: CampaignRef, opened: OpenBatch) -> None:
        """Keep the lease. `LeaseLost`."""
        self._messages.extend(ref, opened.number, opened.fence, self._clock.now(), lease_ms=self.lease_ms)

    def finish(self, ref: CampaignRef, opened: OpenBatch, settled: Sequence[Settlement] = ()) -> None:
        """Record the last outcomes, close the group, count, and give the batch back. `LeaseLost`."""
        self.record(ref, opened, settled, ())
        self.give_back(ref, opened)

    def give_back(self, ref: CampaignRef, opened: OpenBatch) -> None:
        """Count, and give the batch back as it is: a group that a predecessor left open stays open. `LeaseLost`."""
        self._messages.close(ref, opened.number, opened.fence)

    def _dead(self, ref: CampaignRef, owner: str) -> Collection[str]:
        return [name for name in self._journals.dead(ref.campaign) if name != owner]


def in_doubt(member: Recipient, since: Instant) -> bool:
    """Whether a member of a group opened at `since` has no outcome recorded by the group's owner: a home may have stored the
    outcomes and not yet closed the group (ports.messages). What was due when the group was opened is still as it was then."""
    return member.status is MessageStatus.PENDING or (member.due is not None and member.due <= since)


def settle_group(members: Sequence[Recipient], trace: Handed | Trace, now: Instant, due: Instant | None) -> Iterator[Settlement]:
    """What becomes of the members of a group left open that are in doubt."""
    for member in members:
        if not isinstance(trace, Handed):
            yield _unknown(member, UNCERTAIN, now, due)
        elif member.key in trace.answered:
            yield trace.answered[member.key]
        elif member.key in trace.in_flight:
            yield _unknown(member, UNANSWERED, now, due)


def _unknown(member: Recipient, reason: str, now: Instant, due: Instant | None) -> Settlement:
    return Settlement(member.key, MessageStatus.UNKNOWN, member.attempt + 1, now, due, 0, reason)
