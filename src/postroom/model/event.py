"""What happens to a message, in one vocabulary whoever reports it, and what it makes of the message's standing.

Reports arrive twice, late and out of order. So a standing is a point on one line, (attempt, rank), and a report only ever
moves it forward: applying any reports in any order, any number of times, ends at the same point. The attempt travels with the
message, so news of an old attempt never undoes a newer one.

    rank within an attempt:  pending < sending < deferred < unknown < skipped < failed < sent < delivered < bounced < complained

Sent outranks failed and unknown: a report that the provider has the message is better than our own guess. Bounced outranks
delivered: some receiving systems accept first and return the mail later. Complained outranks all: somebody read it. What people
do with a mail (open, click, unsubscribe) moves nothing on that line: the first time of each is kept beside it.

An event as stores keep it: a JSON array, its id first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec

from postroom.clock import Instant
from postroom.errors import Corrupt
from postroom.model.message import MessageStatus
from postroom.model.tokens import MAX_ATTEMPT

MAX_DETAIL = 250
MAX_URL = 500
MAX_RAW = 4_000
"""Characters of the reporter's own words that are kept."""
_LINE = (
    MessageStatus.PENDING,
    MessageStatus.SENDING,
    MessageStatus.DEFERRED,
    MessageStatus.UNKNOWN,
    MessageStatus.SKIPPED,
    MessageStatus.FAILED,
    MessageStatus.SENT,
    MessageStatus.DELIVERED,
    MessageStatus.BOUNCED,
    MessageStatus.COMPLAINED,
)
_RANK = {status: rank for rank, status in enumerate(_LINE)}


class EventKind(StrEnum):
    """Each word once. The reporter's own is kept in `Event.raw`."""

    QUEUED = "queued"
    """Postroom has taken it on: imported, or accepted over HTTP."""
    SENT = "sent"
    """The provider (a relay, SES) has taken responsibility for it."""
    DELAYED = "delayed"
    """Refused for now, by the provider or by the receiving side; somebody tries again."""
    DELIVERED = "delivered"
    """The receiving server took it."""
    BOUNCED = "bounced"
    """The receiving side returned it. `Event.bounce` says how lasting that is, and why."""
    REJECTED = "rejected"
    """The provider refused it after taking it: a virus, an account that is closed. It stands as bounced, undetermined."""
    COMPLAINED = "complained"
    """The recipient called it spam."""
    OPENED = "opened"
    """Its pixel was fetched."""
    CLICKED = "clicked"
    """A link in it was followed."""
    UNSUBSCRIBED = "unsubscribed"
    """The recipient wants no more of it."""
    RESUBSCRIBED = "resubscribed"
    """The recipient took that back."""


class BounceType(StrEnum):
    """How lasting a bounce is."""

    HARD = "hard"
    """This address will not take mail: it is suppressed."""
    SOFT = "soft"
    """It may take mail another day."""
    UNDETERMINED = "undetermined"
    """The report does not say."""


class BounceClass(StrEnum):
    """Why, as far as the report tells."""

    MAILBOX = "mailbox"
    """There is no such mailbox (5.1.1 and friends)."""
    DISABLED = "disabled"
    """The mailbox exists and is switched off (5.2.1)."""
    QUOTA = "quota"
    """The mailbox is full (x.2.2)."""
    DOMAIN = "domain"
    """The domain does not exist, or takes no mail."""
    NETWORK = "network"
    """The receiving server could not be reached or did not finish."""
    SIZE = "size"
    """The message is too large for it."""
    CONTENT = "content"
    """The content was refused: spam, a virus, a link."""
    POLICY = "policy"
    """The sender was refused: reputation, a block list, authentication, relaying."""
    RATE = "rate"
    """Too much at a time."""
    PROTOCOL = "protocol"
    """The dialogue went wrong."""
    OTHER = "other"
    """Something else, or nothing that could be recognised."""


class Bounce(NamedTuple):
    """What a bounce says."""

    type: BounceType
    category: BounceClass
    code: str = ""
    """The enhanced status code (RFC 3463), or the SMTP reply code; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to one attempt at a message."""

    kind: EventKind
    attempt: int
    """From 1; of `queued` 0."""
    at: Instant
    """When it happened, by the reporter's clock where it has one."""
    id: str
    """Unlike any other event's of the message; the same whenever the same thing is reported again. Up to 100 characters."""
    source: str
    """Who reports: `smtp`, `dsn`, `arf`, `ses`, `tracking`, `unsubscribe`, `mail` (a wish written to the return path),
    `operator`, `postroom`."""
    bounce: Bounce | None = None
    machine: bool = False
    """Of a hit: an image proxy, a link scanner, a prefetch. Shown, and not counted as a person's."""
    detail: str = ""
    """For people: the last reply, the kind of complaint, the user agent. Up to `MAX_DETAIL` characters."""
    url: str = ""
    """Of a click: where to. Up to `MAX_URL` characters."""
    raw: str = ""
    """The reporter's own words, cut to `MAX_RAW` characters."""

    @property
    def status(self) -> MessageStatus | None:
        """What it makes of the attempt; None: nothing."""
        return _STATE.get(self.kind)


_STATE = {
    EventKind.SENT: MessageStatus.SENT,
    EventKind.DELIVERED: MessageStatus.DELIVERED,
    EventKind.BOUNCED: MessageStatus.BOUNCED,
    EventKind.REJECTED: MessageStatus.BOUNCED,
    EventKind.COMPLAINED: MessageStatus.COMPLAINED,
}


class StatusRank(NamedTuple):
    """Where a message stands; ordered as the module's text says."""

    attempt: int
    status: MessageStatus

    @property
    def rank(self) -> tuple[int, int]:
        """Its place on the line."""
        return self.attempt, _RANK[self.status]


def status_after(standing: StatusRank, event: Event) -> StatusRank:
    """The standing after the event: the same, or further on. On the wire the last attempt that can be told apart stands for all
    after it (model.wire), so a report of it is about the newest."""
    status = event.status
    if status is None:
        return standing
    attempt = max(event.attempt, standing.attempt) if event.attempt >= MAX_ATTEMPT else event.attempt
    return max(standing, StatusRank(attempt, status), key=lambda each: each.rank)


_EventRow = tuple[str, EventKind, int, int, str, Bounce | None, bool, str, str, str]
EventCells = list[object]


def event_cells(event: Event) -> EventCells:
    """The array, for whoever writes many as one value."""
    bounce = None if event.bounce is None else [event.bounce.type.value, event.bounce.category.value, event.bounce.code]
    return [
        event.id,
        event.kind.value,
        event.at,
        event.attempt,
        event.source,
        bounce,
        event.machine,
        event.detail,
        event.url,
        event.raw,
    ]


def event_text(event: Event) -> str:
    """The array as text."""
    return msgspec.json.encode(event_cells(event)).decode()


def parse_event(text: str) -> Event:
    """What `event_text` wrote; `Corrupt`."""
    try:
        return _event_from_row(msgspec.json.decode(text, type=_EventRow))
    except msgspec.DecodeError as error:
        raise Corrupt(f"an event cannot be read: {error}") from error


def event_from_cells(row: Sequence[object]) -> Event:
    """What `cells` made; `Corrupt`."""
    try:
        return _event_from_row(msgspec.convert(row, _EventRow))
    except msgspec.ValidationError as error:
        raise Corrupt(f"an event cannot be read: {error}") from error


def _event_from_row(row: _EventRow) -> Event:
    id_, kind, at, attempt, source, bounce, machine, detail, url, raw = row
    return Event(
        id=id_,
        kind=kind,
        at=Instant(at),
        attempt=attempt,
        source=source,
        bounce=bounce,
        machine=machine,
        detail=detail,
        url=url,
        raw=raw,
    )
