"""A message is one recipient of one campaign: its states, and what one attempt makes of it.

    pending ─→ sending ─→ sent ─→ delivered
       ↑          │         ├───→ bounced        (the receiving side refused the address)
       │          │         └───→ complained
       │          ├─→ deferred (temporary: again at `due`) ─→ sending
       │          ├─→ failed   (permanent, with code and text)
       │          ├─→ bounced  (refused at send: 550 5.1.x)
       │          ├─→ unknown  (handed to the provider, answer never seen) ─→ any of the above, or pending again
       └──────────┴─→ skipped  (suppressed since import, or cancelled)

`sending` is never stored on a message: it is in its batch's open group (model.batch). Each state stands below once,
with the number it is stored as. Numbers are for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.ids import Key


class MessageStatus(IntEnum):
    """Where a message stands. The names are those of the API and of `--json`."""

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
        """The word users see."""
        return self.name.lower()


WAITING = frozenset({MessageStatus.PENDING, MessageStatus.SENDING, MessageStatus.DEFERRED})
"""States in which Postroom still owes the recipient something. A campaign with any of them is not completed."""
NOT_SENT = frozenset({MessageStatus.FAILED, MessageStatus.BOUNCED, MessageStatus.UNKNOWN})
"""Ended, but not known to have reached the provider: what `send` reports with exit code 3."""
ERASED = "erased"
"""The address of a message whose recipient was erased: no address, and nobody's."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages by state: the result of counting, never of adding one. Each message is counted in one state."""

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
    """Messages whose recipients did something; people, not machines. Counted like `Counts`; one may be in all three."""

    opened: int = 0
    clicked: int = 0
    unsubscribed: int = 0
    """And did not take it back."""

    def __add__(self, other: Engagement) -> Engagement:
        return Engagement(self.opened + other.opened, self.clicked + other.clicked, self.unsubscribed + other.unsubscribed)


class Totals(NamedTuple):
    """What is counted of messages."""

    counts: Counts
    engagement: Engagement

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(self.counts + other.counts, self.engagement + other.engagement)


class MessageRow(NamedTuple):
    """One accepted row on its way into the ledger."""

    batch: int
    key: Key
    line: int
    """The line of the upload its record begins on, from 1."""
    address: str
    name: str | None
    values: str
    """A JSON array: the row's cells as text (or null where the row is short), in the order of the campaign's columns."""


class Recipient(NamedTuple):
    """One message as the sender needs it."""

    key: Key
    line: int
    address: str
    name: str | None
    values: str
    status: MessageStatus
    attempt: int
    """Attempts already recorded: 0 for a new message."""
    due: Instant | None = None
    """As recorded: when it is to be tried, or decided."""

    @property
    def erased(self) -> bool:
        """Whether nobody knows any more whom it was for: it cannot be sent."""
        return self.address == ERASED


class Settlement(NamedTuple):
    """What becomes of one message: written by the holder of its batch's fence."""

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
        """When the message has work after this: 0 for at once, None for never."""
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
    """None also for who took it back."""

    @property
    def is_work(self) -> bool:
        """Whether it is still to be sent, or decided by a policy."""
        return self.status in WAITING or (self.status is MessageStatus.UNKNOWN and self.due is not None)

    def is_erased(self, values: str) -> bool:
        """Whether nothing but `values` is told of its recipient."""
        return (self.address, self.name, self.values, self.reply) == (ERASED, None, values, "")
