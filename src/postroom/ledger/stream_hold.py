"""Single messages of a restored installation: whoever was waiting in the copy may have got theirs since, so nobody is sent to.

They become `unknown`, which is what is known of them: reported, and not sent again. Safe to repeat from any point.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroom.clock import Clock
from postroom.ledger import notes
from postroom.ledger.sweep import Sweep
from postroom.model.campaign import CampaignRef, Policies
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.workflows import Workflows

_WAITING = frozenset({MessageStatus.PENDING, MessageStatus.DEFERRED})


class _Held:
    """A stream, as far as Sweep asks."""

    def __init__(self, ref: CampaignRef) -> None:
        self.ref = ref
        self.policies = Policies()


def hold_streams(
    refs: Iterable[CampaignRef], messages: Messages, workflows: Workflows, *, sweep: Sweep, clock: Clock, reason: str
) -> int:
    """Put everybody who waits in these streams in doubt; how many."""
    held = 0
    for ref in refs:
        messages.recount(ref)  # what was stored and not yet counted waits as well
        if messages.next_due(ref) is not None:
            held += sweep.change(_Held(ref), _WAITING, lambda recipient: _in_doubt(recipient, clock, reason))
        workflows.stop(notes.STREAM, ref.campaign, reason)
    return held


def _in_doubt(recipient: Recipient, clock: Clock, reason: str) -> Settlement:
    return Settlement(recipient.key, MessageStatus.UNKNOWN, recipient.attempt, clock.now(), reply=reason)
