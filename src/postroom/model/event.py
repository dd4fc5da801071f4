"""Events: what happens to a message, in one vocabulary for all sources, and how they change its status.

Reports arrive twice, late and out of order. So a status has a rank, (attempt, position on the line below), and an event only ever
moves a message forward: any events in any order, any number of times, end at the same status. The attempt travels with the
message, so a report of an old attempt never overrides a newer one.

    within an attempt:  pending < sending < deferred < unknown < skipped < failed < sent < delivered < bounced < complained

Sent outranks failed and unknown: a report that the provider has the message is better than our own guess. Bounced outranks
delivered: some servers accept first and return the message later. Complained outranks all. Opens, clicks and unsubscribes do not
change the status: the first time of each is kept beside it.
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
    """What happened. The source's own text is kept in `Event.raw`."""

    QUEUED = "queued"
    """Postroom accepted it: imported, or over the API."""
    SENT = "sent"
    """The provider (a relay, SES) accepted it."""
    DELAYED = "delayed"
    """Temporarily refused, by the provider or the receiving server; it is tried again."""
    DELIVERED = "delivered"
    """The receiving server accepted it."""
    BOUNCED = "bounced"
    """The receiving server rejected or returned it. `Event.bounce` has type and class."""
    REJECTED = "rejected"
    """The provider refused it after accepting it: a virus, a closed account. The status becomes bounced, undetermined."""
    COMPLAINED = "complained"
    """The recipient reported it as spam."""
    OPENED = "opened"
    """The tracking pixel was fetched."""
    CLICKED = "clicked"
    """A link in it was followed."""
    UNSUBSCRIBED = "unsubscribed"
    """The recipient unsubscribed."""
    RESUBSCRIBED = "resubscribed"
    """The recipient undid the unsubscribe."""


class BounceType(StrEnum):
    """How permanent a bounce is."""

    HARD = "hard"
    """Permanent: the address is suppressed."""
    SOFT = "soft"
    """Temporary: the address may accept mail later."""
    UNDETERMINED = "undetermined"
    """The report does not say."""


class BounceClass(StrEnum):
    """Why the message bounced, as far as the report says."""

    MAILBOX = "mailbox"
    """The mailbox does not exist (5.1.1)."""
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
    """An event of one attempt at a message."""

    kind: EventKind
    attempt: int
    """From 1; of `queued` 0."""
    at: Instant
    """When it happened, by the reporter's clock where it has one."""
    id: str
    """Unique among the message's events, and the same if the same thing is reported again. Up to 100 characters."""
    source: str
    """The reporter: `smtp`, `dsn`, `arf`, `ses`, `tracking`, `unsubscribe`, `mail` (a request mailed to the return path),
    `operator`, `postroom`."""
    bounce: Bounce | None = None
    machine: bool = False
    """An open or click by an image proxy, link scanner or prefetch. Shown, but not counted."""
    detail: str = ""
    """For people: the last reply, the kind of complaint, the user agent. Up to `MAX_DETAIL` characters."""
    url: str = ""
    """A click's target, up to `MAX_URL` characters."""
    raw: str = ""
    """The reporter's own words, cut to `MAX_RAW` characters."""

    @property
    def status(self) -> MessageStatus | None:
        """The status that it gives the attempt; None: none."""
        return _STATE.get(self.kind)


_STATE = {
    EventKind.SENT: MessageStatus.SENT,
    EventKind.DELIVERED: MessageStatus.DELIVERED,
    EventKind.BOUNCED: MessageStatus.BOUNCED,
    EventKind.REJECTED: MessageStatus.BOUNCED,
    EventKind.COMPLAINED: MessageStatus.COMPLAINED,
}


class StatusRank(NamedTuple):
    """An attempt and its status, ordered by rank."""

    attempt: int
    status: MessageStatus

    @property
    def rank(self) -> tuple[int, int]:
        """Attempt, then position on the line."""
        return self.attempt, _RANK[self.status]


def status_after(standing: StatusRank, event: Event) -> StatusRank:
    """The rank after an event: unchanged or further. Tokens carry attempts up to `MAX_ATTEMPT`, so a report of that attempt is
    about the newest."""
    status = event.status
    if status is None:
        return standing
    attempt = max(event.attempt, standing.attempt) if event.attempt >= MAX_ATTEMPT else event.attempt
    return max(standing, StatusRank(attempt, status), key=lambda each: each.rank)


_EventRow = tuple[str, EventKind, int, int, str, Bounce | None, bool, str, str, str]
EventCells = list[object]


def event_cells(event: Event) -> EventCells:
    """The event as an array of JSON values."""
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
    """Parse what `event_text` wrote. Raises `Corrupt`."""
    try:
        return _event_from_row(msgspec.json.decode(text, type=_EventRow))
    except msgspec.DecodeError as error:
        raise Corrupt(f"an event cannot be read: {error}") from error


def event_from_cells(row: Sequence[object]) -> Event:
    """Parse what `event_cells` made. Raises `Corrupt`."""
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
