"""What reports have said of a message, kept beside what our own worker recorded of it: neither can undo the other.

A message's record has two halves. The *outcome* is written by whoever holds its batch, one settlement after the other. The
*news* is what came back, from whoever, in whatever order: of every standing that was reported the furthest on the line of
model.event, and when people first did what. How the message stands is the further of the two, the outcome where they are even:

    outcome  (1, deferred) ─→ (2, sent)              written under a fence
    news     none ──────────────────→ (2, bounced)   written by anybody
    stands   (1, deferred) ─→ (2, sent) ─→ (2, bounced)

So a report may come before the worker has recorded its own outcome, or after; both ways end at the same record. And an order
to try again changes nothing of a message that has bounced meanwhile: it is no work any more.
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
"""Events of one message after which further opens and clicks of it are not kept: a link can be fetched without end."""
MAX_EVENTS = 1_200
"""After which nothing is kept that leaves the message where it stands: reports can be forged without end, with a token of it."""
OWN_EVENT_PREFIX = "own."
"""What ids of our worker's own events begin with."""
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
    """The reported half of a message's record."""

    status: MessageStatus | None = None
    """The furthest standing that was reported; None: no report said anything of that."""
    attempt: int = 0
    at: Instant | None = None
    """When it came to that, by the report's clock: the earliest of those that say the same."""
    reply: str = ""
    """In the reporter's words."""
    opened: Instant | None = None
    """First by a person."""
    clicked: Instant | None = None
    """First by a person."""
    unsubscribed: Instant | None = None
    """When they last asked for that."""
    resubscribed: Instant | None = None
    """When they last took it back."""
    events: int = 0
    """How many were heard."""

    def hear(self, event: Event) -> ReportedStatus:
        """With one more event, of an id not heard before. In whatever order events are heard, the end is the same."""
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
        """The furthest that was reported."""
        return None if self.status is None else StatusRank(self.attempt, self.status)

    def ahead_of(self, outcome: StatusRank) -> StatusRank | None:
        """Where the message stands for its news, if that is further than its outcome. What the wire calls the last attempt is
        the newest one."""
        if self.status is None:
            return None
        attempt = max(self.attempt, outcome.attempt) if self.attempt >= MAX_ATTEMPT else self.attempt
        said = StatusRank(attempt, self.status)
        return said if said.rank > outcome.rank else None

    @property
    def unsubscribed_at(self) -> Instant | None:
        """When they unsubscribed, unless they took it back since."""
        if self.unsubscribed is None or self.resubscribed is None:
            return self.unsubscribed
        return self.unsubscribed if self.unsubscribed > self.resubscribed else None

    @property
    def is_full(self) -> bool:
        """Whether further opens and clicks are not kept."""
        return self.events >= MAX_ENGAGEMENT_EVENTS

    def takes(self, event: Event) -> bool:
        """Whether the event is still kept."""
        if self.events >= MAX_EVENTS:
            return self.hear(event).standing != self.standing
        return not (self.is_full and event.kind in _CAPPED)


def truncate_event(event: Event) -> Event:
    """As it is stored: within its limits, and nothing in it that a store could not give back."""
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
    """Without what may tell of the person: for a message whose recipient was erased."""
    return replace(event, detail="", url="", raw="")


def reply_text(event: Event) -> str:
    """What the message's record shows of it."""
    code = event.bounce.code if event.bounce else ""
    told = event.detail if event.detail.startswith(code) else f"{code} {event.detail}".rstrip()
    return told[:MAX_DETAIL]


def event_from_settlement(settlement: Settlement) -> Event | None:
    """What our own worker tells of an attempt; None: nothing that belongs on a timeline. `failed` shows as rejected, and
    `unknown` as delayed: the words of the settlement say which."""
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
    """That Postroom has taken the message on."""
    return Event(kind=EventKind.QUEUED, attempt=0, at=at, id=f"{OWN_EVENT_PREFIX}queued", source="postroom")


def sort_events(events: Iterable[Event]) -> list[Event]:
    """As a timeline shows them."""
    return sorted(events, key=lambda event: (event.at, event.attempt, _KINDS.index(event.kind), event.id))


def _chosen(choose: Callable[[Instant, Instant], Instant], known: Instant | None, new: Instant) -> Instant:
    return new if known is None else choose(known, new)


def _bounce(settlement: Settlement) -> Bounce:
    """A refusal at the hand-over that was about the address (delivery.outcome)."""
    enhanced = _ENHANCED.match(settlement.reply)
    code = enhanced[1] if enhanced else str(settlement.code or "")
    return Bounce(BounceType.HARD, BounceClass.DOMAIN if code in _NO_DOMAIN else BounceClass.MAILBOX, code)


def _text(text: str, most: int) -> str:
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
