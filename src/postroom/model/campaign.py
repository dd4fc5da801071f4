"""A campaign: who sends what to which recipients, under which policies, and where it stands.

    draft → importing → ready → (scheduled →) sending ⇄ paused
                 │         │         │          │  │       │
                 └─────────┴─────────┴──────────┴──│───────┴──→ cancelled
                 └─→ failed ←──────────────────────┤
                                                   └─→ completed → sending   (retry-failed, settle)

`completed` only when the ledger adds up: rows = invalid + duplicate + suppressed + accepted, and every accepted message
is past sending. Every transition is one conditional write on the old state (ledger.campaigns).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.message import Counts


class CampaignStatus(StrEnum):
    """Where a campaign stands."""

    DRAFT = "draft"
    IMPORTING = "importing"
    READY = "ready"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


_S = CampaignStatus
TRANSITIONS: dict[CampaignStatus, frozenset[CampaignStatus]] = {
    _S.DRAFT: frozenset({_S.IMPORTING, _S.CANCELLED}),
    _S.IMPORTING: frozenset({_S.READY, _S.FAILED, _S.CANCELLED}),
    _S.READY: frozenset({_S.SCHEDULED, _S.SENDING, _S.PAUSED, _S.CANCELLED}),
    _S.SCHEDULED: frozenset({_S.SENDING, _S.PAUSED, _S.CANCELLED}),
    _S.SENDING: frozenset({_S.PAUSED, _S.COMPLETED, _S.CANCELLED, _S.FAILED}),
    _S.PAUSED: frozenset({_S.SENDING, _S.SCHEDULED, _S.CANCELLED}),
    _S.COMPLETED: frozenset({_S.SENDING}),
    _S.CANCELLED: frozenset(),
    _S.FAILED: frozenset(),
}
ENDED = frozenset({_S.COMPLETED, _S.CANCELLED, _S.FAILED})
"""Nothing more happens by itself."""


class CampaignRef(NamedTuple):
    """Where a campaign's batches and messages live: every key begins with the tenant."""

    tenant: str
    campaign: str


class UnknownPolicy(StrEnum):
    """What becomes of a message whose answer was never seen, once `settle_after` has passed without news of it."""

    NEVER_TWICE = "never_twice"
    """It stays `unknown`: reported, not sent again."""
    NEVER_MISSED = "never_missed"
    """It is sent again: the recipient may get it twice."""


class MissingPolicy(StrEnum):
    """What becomes of a recipient for whom the template needs a value that the row does not have."""

    ERROR = "error"
    """The message fails, with the row and the variable's name."""
    EMPTY = "empty"
    """The value is empty text (and `default(...)` in the template applies). Never "None"."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with every message."""

    object_key: str
    filename: str
    content_type: str
    content_id: str | None = None
    """Set for an inline image: the template refers to it as `cid:<content_id>`."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent: the template's parts as objects in the store, and the headers' templates."""

    html_key: str
    """Object key of the HTML template (MJML already compiled)."""
    text_key: str | None
    """Object key of the text template; None: derived from the HTML."""
    subject: str
    from_: str
    """An address, or `Name <address>`."""
    reply_to: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    """Values for every recipient (`--set k=v`); a column of the same name wins."""
    missing: MissingPolicy = MissingPolicy.ERROR
    attachments: tuple[Attachment, ...] = ()
    track_opens: bool = True
    track_clicks: bool = True
    topic: str | None = None
    public_url: str | None = None
    """Where its links lead, frozen: the link table is made for it."""


@dataclass(frozen=True, slots=True)
class Import:
    """How the upload became messages: sums of what the splitter recorded, final once the state is past importing."""

    upload_key: str
    filename: str
    email_column: str | None = None
    """What the user named; None: recognised from the header."""
    columns: tuple[str, ...] = ()
    """The columns whose cells messages carry, in the order of `NewMessage.values`: what the template calls them."""
    batches: int = 0
    rows: int = 0
    invalid: int = 0
    duplicate: int = 0
    suppressed: int = 0
    rejected_key: str | None = None
    """Object key of the report of rejected rows (CSV: line, address, reason, detail)."""
    upload_version: str | None = None
    """The version of the object that was chosen; None: the newest when the import is planned."""
    headings: tuple[tuple[str, str], ...] = ()
    """For variables that are fed from a column of another name: variable and heading."""

    @property
    def wanted(self) -> list[str]:
        """The headings that feed `columns`, in their order."""
        headings = dict(self.headings)
        return [headings.get(name, name) for name in self.columns]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When sending starts."""

    at: Instant
    timezone: str
    """The IANA zone the user spoke in, for showing it back."""
    grace_ms: int = 3_600_000
    """Found later than this after `at`, the campaign is paused instead of started."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The campaign's rules."""

    unknown: UnknownPolicy = UnknownPolicy.NEVER_TWICE
    settle_after_ms: int = 3_600_000
    rate: float | None = None
    """Recipients a second at most; None: as fast as the provider takes them."""
    give_up_after_ms: int = 48 * 3_600_000
    """A recipient still deferred this long after sending last began is failed."""
    retry_after_ms: int = 60_000
    """The first wait of a deferred recipient; it doubles up to an hour."""

    def unknown_due(self, now: Instant) -> Instant | None:
        """When a message that became unknown now is sent again; None: never."""
        return Instant(now + self.settle_after_ms) if self.unknown is UnknownPolicy.NEVER_MISSED else None


@dataclass(frozen=True, slots=True)
class Campaign:
    """The record. `version` is the store's, for the conditional write."""

    ref: CampaignRef
    name: str
    status: CampaignStatus
    content: Content
    source: Import
    provider: str
    """A provider URL (see settings `POSTROOM_MAIL`) or the name of one."""
    created_at: Instant
    schedule: Schedule | None = None
    policies: Policies = field(default_factory=Policies)
    started_at: Instant | None = None
    """When it first began to send."""
    sending_since: Instant | None = None
    """When it last began to send: from here `give_up_after_ms` counts."""
    finished_at: Instant | None = None
    reason: str | None = None
    """Why it is paused, cancelled or failed."""
    start_when_ready: bool = False
    paused_at: Instant | None = None
    """When it was last paused."""
    template_id: str | None = None
    """What it was made from, where that was a stored template; the content itself is the campaign's own."""
    template_version: int | None = None
    upload_id: str | None = None
    created_by: str | None = None
    """Who made it, for people."""
    callback_url: str | None = None
    """Where its events are told, besides the tenant's own callbacks; https."""
    version: int = 0


def adds_up(source: Import, counts: Counts) -> bool:
    """Whether every row of the upload is accounted for exactly once."""
    return source.rows == source.invalid + source.duplicate + source.suppressed + counts.total


def may_complete(source: Import, counts: Counts, *, unsettled: int) -> bool:
    """The only gate to `completed`: all rows accounted for, nobody waiting, no `unknown` that a policy has yet to decide."""
    return adds_up(source, counts) and counts.waiting == 0 and unsettled == 0
