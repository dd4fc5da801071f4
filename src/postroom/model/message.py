"""A message: one recipient of a campaign or daily stream, its statuses, and what one attempt makes of it.

    pending ──→ sending ──→ sent ──→ delivered
                   ├──→ deferred ──→ sending            temporary failure: again at `due`, failed after `give_up_after`
                   ├──→ failed ──→ pending              permanent failure, with code and text (pending: retry-failed)
                   ├──→ bounced                         the address was rejected (550 5.1.x)
                   └──→ unknown ──→ pending             handed over, answer never seen (pending: never_missed, settle resend)
                           └──────→ sent, failed        as the operator settles it
    pending, deferred ──→ skipped                       suppressed since the import, cancelled or erased
    any ──→ sent, delivered, bounced, complained        as the provider reports; only forward (model.event)

`sending` is never stored on a message: its key is in its batch's open group (model.batch). Each status is defined once, with the
number that it is stored as. Numbers never change.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.ids import Key


class MessageStatus(IntEnum):
    """The status of a message. The lower-case names are those of the API and of `--json`."""

    PENDING = 0
    SENDING = 1
    DEFERRED = 2
    SENT = 3
    DELIVERED = 4
    BOUNCED = 5
    COMPLAINED = 6
    FAILED = 7
    UNKNOWN = 8
    SKIPPED = 9

    @property
    def label(self) -> str:
        """The name in the API, the command line and logs."""
        return self.name.lower()


WAITING = frozenset({MessageStatus.PENDING, MessageStatus.SENDING, MessageStatus.DEFERRED})
"""Statuses of messages that are still to be sent. A campaign with any of them is not completed."""
NOT_SENT = frozenset({MessageStatus.FAILED, MessageStatus.BOUNCED, MessageStatus.UNKNOWN})
"""Final, but not known to have reached the provider: `postroom send` exits with 3 if there is any."""
ERASED = "erased"
"""The address of a message whose recipient was erased. Not a valid address."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages by status, always counted from the messages, never incremented."""

    pending: int = 0
    sending: int = 0
    deferred: int = 0
    sent: int = 0
    delivered: int = 0
    bounced: int = 0
    complained: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All messages: the campaign's accepted recipients."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def waiting(self) -> int:
        """Messages that are not past sending."""
        return self.pending + self.sending + self.deferred

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_dict(self) -> dict[str, int]:
        """By label, in the order of this class."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Engagement:
    """Messages that people (not scanners) opened, clicked or unsubscribed from. A message may count in all three."""

    opened: int = 0
    clicked: int = 0
    unsubscribed: int = 0
    """Without those who resubscribed."""

    def __add__(self, other: Engagement) -> Engagement:
        return Engagement(self.opened + other.opened, self.clicked + other.clicked, self.unsubscribed + other.unsubscribed)


class Totals(NamedTuple):
    """Counts by status and engagement."""

    counts: Counts
    engagement: Engagement

    def plus(self, other: Totals) -> Totals:
        """The sum of both."""
        return Totals(self.counts + other.counts, self.engagement + other.engagement)


class MessageRow(NamedTuple):
    """An accepted row of an import, to be stored as a message."""

    batch: int
    key: Key
    line: int
    """The line of the upload its record begins on, from 1."""
    address: str
    name: str | None
    values: str
    """A JSON array: the row's cells as text (or null where the row is short), in the order of the campaign's columns."""


class Recipient(NamedTuple):
    """A message as the sender needs it."""

    key: Key
    line: int
    address: str
    name: str | None
    values: str
    status: MessageStatus
    attempt: int
    """Attempts already recorded: 0 for a new message."""
    due: Instant | None = None
    """When to try it again, or decide about it; None: not planned."""

    @property
    def erased(self) -> bool:
        """Whether the recipient was erased: the message cannot be sent."""
        return self.address == ERASED


class Settlement(NamedTuple):
    """The outcome of one message, written under its batch's fence."""

    key: Key
    status: MessageStatus
    attempt: int
    """The number of the attempt this settles, from 1; unchanged where nothing was tried."""
    at: Instant
    due: Instant | None = None
    """`deferred`: when to try again. `unknown`: when the campaign's policy decides, None for never."""
    code: int = 0
    """The SMTP basic code (or HTTP status) of the last reply, 0 where there was none."""
    reply: str = ""
    """The last reply, or the reason in words; cut to 250 characters."""
    provider_id: str | None = None

    @property
    def next_work(self) -> Instant | None:
        """When the message is due after this: 0 for at once, None for never."""
        if self.status is MessageStatus.PENDING:
            return Instant(0)
        return self.due if self.status in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN) else None


@dataclass(frozen=True, slots=True)
class Message:
    """The whole record of one message, for lists, exports and the API. Under 1 KB in any store."""

    batch: int
    key: Key
    line: int
    address: str
    name: str | None
    values: str
    status: MessageStatus
    attempt: int
    at: Instant | None
    due: Instant | None
    code: int
    reply: str
    provider_id: str | None
    opened_at: Instant | None = None
    """First, by a person."""
    clicked_at: Instant | None = None
    """First, by a person."""
    unsubscribed_at: Instant | None = None
    """None also if the recipient resubscribed."""

    @property
    def is_work(self) -> bool:
        """Whether it is still to be sent, or decided by a policy."""
        return self.status in WAITING or (self.status is MessageStatus.UNKNOWN and self.due is not None)

    def is_erased(self, values: str) -> bool:
        """Whether the record holds nothing of its recipient but `values`."""
        return (self.address, self.name, self.values, self.reply) == (ERASED, None, values, "")
