"""What is reported of a message from outside, and what it makes of the message's standing.

Reports arrive twice, late and out of order. So a standing is a point on one line, (attempt, rank), and a report only ever
moves it forward: applying any reports in any order, any number of times, ends at the same point. The attempt travels with the
message, so news of an old attempt never undoes a newer one.

    rank within an attempt:  pending < sending < deferred < unknown < skipped < failed < sent < delivered < bounced < complained

Sent outranks failed and unknown: a report that the provider has the message is better than our own guess. Bounced outranks
delivered: some receiving systems accept first and return the mail later. Complained outranks all: somebody read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.message import MessageState
from postroom.model.wire import MAX_ATTEMPT

_LINE = (
    MessageState.PENDING,
    MessageState.SENDING,
    MessageState.DEFERRED,
    MessageState.UNKNOWN,
    MessageState.SKIPPED,
    MessageState.FAILED,
    MessageState.SENT,
    MessageState.DELIVERED,
    MessageState.BOUNCED,
    MessageState.COMPLAINED,
)
_RANK = {state: rank for rank, state in enumerate(_LINE)}


class Report(StrEnum):
    """What may be reported; the word of the provider's own vocabulary is kept beside it."""

    SENT = "sent"
    """The provider has it."""
    DELIVERED = "delivered"
    """The receiving server took it."""
    BOUNCED = "bounced"
    """The receiving side refused it for good."""
    COMPLAINED = "complained"
    """The recipient called it spam."""


_STATE = {
    Report.SENT: MessageState.SENT,
    Report.DELIVERED: MessageState.DELIVERED,
    Report.BOUNCED: MessageState.BOUNCED,
    Report.COMPLAINED: MessageState.COMPLAINED,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One report about one attempt."""

    report: Report
    attempt: int
    """From 1."""
    at: Instant


class Standing(NamedTuple):
    """Where a message stands; ordered as the module's text says."""

    attempt: int
    state: MessageState

    @property
    def rank(self) -> tuple[int, int]:
        """Its place on the line."""
        return self.attempt, _RANK[self.state]


def apply(standing: Standing, event: Event) -> Standing:
    """The standing after the report: the same, or further on. On the wire the last attempt that can be told apart stands for all
    after it (model.wire), so a report of it is about the newest."""
    attempt = max(event.attempt, standing.attempt) if event.attempt >= MAX_ATTEMPT else event.attempt
    reported = Standing(attempt, _STATE[event.report])
    return max(standing, reported, key=lambda each: each.rank)
