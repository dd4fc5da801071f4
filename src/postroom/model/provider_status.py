"""What others report about a message, kept beside the outcome that our worker recorded: neither can undo the other.

The *outcome* is written by the worker that holds the message's batch. The *reported status* is the furthest status that any
report gave it (model.event), and when people first opened, clicked and so on. The message's status is the further of the two, the
outcome if they are equal:

    outcome   (1, deferred) ─→ (2, sent)              written under a fence
    reported  none ──────────────────→ (2, bounced)   written without one
    status    (1, deferred) ─→ (2, sent) ─→ (2, bounced)

So a report may come before or after the worker records its outcome: both end at the same record. And an order to try again does
not change a message that has bounced meanwhile: it is no work any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.event import MAX_DETAIL, MAX_RAW, MAX_URL, Bounce, BounceClass, BounceType, Event, EventKind, StatusRank
from postroom.model.message import MessageStatus, Settlement
from postroom.model.tokens import MAX_ATTEMPT

MAX_EVENT_ID = 100
MAX_SOURCE = 20
MAX_ENGAGEMENT_EVENTS = 1_000
"""Beyond this many events of a message, opens and clicks are not kept: a link can be fetched without limit."""
MAX_EVENTS = 1_200
"""Beyond this many, only events that change the status are kept: with the message's token, reports can be forged without limit.
"""
OWN_EVENT_PREFIX = "own."
"""The prefix of ids of our worker's own events."""
_KINDS = tuple(EventKind)
_NO_DOMAIN = frozenset({"5.1.2", "5.1.10"})
_CAPPED = frozenset({EventKind.OPENED, EventKind.CLICKED})
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
_OURS = {
    MessageStatus.SENT: EventKind.SENT,
    MessageStatus.DEFERRED: EventKind.DELAYED,
    MessageStatus.UNKNOWN: EventKind.DELAYED,
    MessageStatus.FAILED: EventKind.REJECTED,
    MessageStatus.BOUNCED: EventKind.BOUNCED,
}


class ReportedStatus(NamedTuple):
    """The reported part of a message's record."""

    status: MessageStatus | None = None
    """The furthest status that was reported; None: none was."""
    attempt: int = 0
    at: Instant | None = None
    """When that happened, by the report's clock: the earliest of equal reports."""
    reply: str = ""
    """The report's text."""
    opened: Instant | None = None
    """First by a person."""
    clicked: Instant | None = None
    """First by a person."""
    unsubscribed: Instant | None = None
    """When they last asked for that."""
    resubscribed: Instant | None = None
    """When they last took it back."""
    events: int = 0
    """How many events were recorded."""

    def hear(self, event: Event) -> ReportedStatus:
        """Add an event with a new id. The result does not depend on the order of events."""
        heard = self._replace(events=self.events + 1)
        match event.kind:
            case EventKind.OPENED if not event.machine:
                return heard._replace(opened=_chosen(min, self.opened, event.at))
            case EventKind.CLICKED if not event.machine:
                return heard._replace(clicked=_chosen(min, self.clicked, event.at))
            case EventKind.UNSUBSCRIBED:
                return heard._replace(unsubscribed=_chosen(max, self.unsubscribed, event.at))
            case EventKind.RESUBSCRIBED:
                return heard._replace(resubscribed=_chosen(max, self.resubscribed, event.at))
        return heard._with_standing(event)

    def _with_standing(self, event: Event) -> ReportedStatus:
        if event.status is None:
            return self
        said = StatusRank(min(event.attempt, MAX_ATTEMPT), event.status)  # the wire tells no later attempts apart
        words = event.at, reply_text(event)
        if self.standing is not None:
            if said.rank < self.standing.rank:
                return self
            if said == self.standing and self.at is not None and words >= (self.at, self.reply):
                return self
        return self._replace(status=said.status, attempt=said.attempt, at=words[0], reply=words[1])

    @property
    def standing(self) -> StatusRank | None:
        """The furthest rank that was reported."""
        return None if self.status is None else StatusRank(self.attempt, self.status)

    def ahead_of(self, outcome: StatusRank) -> StatusRank | None:
        """The reported rank if it is further than the outcome, else None. A report of attempt `MAX_ATTEMPT` is about the newest
        attempt."""
        if self.status is None:
            return None
        attempt = max(self.attempt, outcome.attempt) if self.attempt >= MAX_ATTEMPT else self.attempt
        said = StatusRank(attempt, self.status)
        return said if said.rank > outcome.rank else None

    @property
    def unsubscribed_at(self) -> Instant | None:
        """When the recipient unsubscribed; None if they resubscribed since."""
        if self.unsubscribed is None or self.resubscribed is None:
            return self.unsubscribed
        return self.unsubscribed if self.unsubscribed > self.resubscribed else None

    @property
    def is_full(self) -> bool:
        """Whether further opens and clicks are not kept."""
        return self.events >= MAX_ENGAGEMENT_EVENTS

    def takes(self, event: Event) -> bool:
        """Whether the event is kept (see the limits above)."""
        if self.events >= MAX_EVENTS:
            return self.hear(event).standing != self.standing
        return not (self.is_full and event.kind in _CAPPED)


def truncate_event(event: Event) -> Event:
    """The event as stored: cut to the limits, without characters that a store cannot return."""
    return replace(
        event,
        id=_text(event.id, MAX_EVENT_ID),
        source=_text(event.source, MAX_SOURCE),
        bounce=event.bounce and event.bounce._replace(code=_text(event.bounce.code, MAX_SOURCE)),
        detail=_text(event.detail, MAX_DETAIL),
        url=_text(event.url, MAX_URL),
        raw=_text(event.raw, MAX_RAW),
    )


def redact_event(event: Event) -> Event:
    """The event without text that may identify the recipient: for erased messages."""
    return replace(event, detail="", url="", raw="")


def reply_text(event: Event) -> str:
    """The text that the message's record shows: code and detail."""
    code = event.bounce.code if event.bounce else ""
    told = event.detail if event.detail.startswith(code) else f"{code} {event.detail}".rstrip()
    return told[:MAX_DETAIL]


def event_from_settlement(settlement: Settlement) -> Event | None:
    """The timeline event of our worker's outcome; None: it is not shown. `failed` is shown as rejected, `unknown` as delayed; the
    text says which."""
    kind = _OURS.get(settlement.status)
    if kind is None or settlement.attempt < 1:
        return None
    return Event(
        kind=kind,
        attempt=settlement.attempt,
        at=settlement.at,
        id=f"{OWN_EVENT_PREFIX}{settlement.attempt}.{settlement.status.label}",
        source="smtp",
        bounce=_bounce(settlement) if settlement.status is MessageStatus.BOUNCED else None,
        detail=_text(settlement.reply, MAX_DETAIL),
    )


def queued_event(at: Instant) -> Event:
    """The event that Postroom accepted the message."""
    return Event(kind=EventKind.QUEUED, attempt=0, at=at, id=f"{OWN_EVENT_PREFIX}queued", source="postroom")


def sort_events(events: Iterable[Event]) -> list[Event]:
    """Events in the order of the timeline."""
    return sorted(events, key=lambda event: (event.at, event.attempt, _KINDS.index(event.kind), event.id))


def _chosen(choose: Callable[[Instant, Instant], Instant], known: Instant | None, new: Instant) -> Instant:
    return new if known is None else choose(known, new)


def _bounce(settlement: Settlement) -> Bounce:
    """The bounce of an address that was rejected at the hand-over (delivery.outcome)."""
    enhanced = _ENHANCED.match(settlement.reply)
    code = enhanced[1] if enhanced else str(settlement.code or "")
    return Bounce(BounceType.HARD, BounceClass.DOMAIN if code in _NO_DOMAIN else BounceClass.MAILBOX, code)


def _text(text: str, most: int) -> str:
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
