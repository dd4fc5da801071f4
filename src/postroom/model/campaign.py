"""A campaign: its spec (what is sent, to whom, by which rules), its status, and how its upload became messages.

    draft ──→ importing ──→ ready ──→ sending ──→ completed ──→ sending       (retry-failed, settle)
                  │           ├──→ scheduled ──→ sending
                  │           └──→ paused
                  │     scheduled ⇄ paused ⇄ sending
                  └──→ failed ←── sending
    draft, importing, ready, scheduled, sending, paused ──→ cancelled

`completed` only if the numbers add up: rows = invalid + duplicate + suppressed + accepted, and every accepted message is past
sending. Every transition is one conditional write on the version that was read (ledger.campaigns); `TRANSITIONS` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.message import Counts


class CampaignStatus(StrEnum):
    """The status of a campaign."""

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
"""Final, except `completed`, which retry-failed and settle reopen."""


class CampaignRef(NamedTuple):
    """Identifies a campaign or daily stream: tenant and id. Every storage key begins with the tenant."""

    tenant: str
    campaign: str


class UnknownPolicy(StrEnum):
    """The policy for a message whose reply was never received, if no report arrives within `settle_after_ms`."""

    NEVER_TWICE = "never_twice"
    """It stays `unknown`: reported, not sent again."""
    NEVER_MISSED = "never_missed"
    """It is sent again: the recipient may get it twice."""


class MissingPolicy(StrEnum):
    """What happens if the template needs a value that a recipient's row does not have."""

    ERROR = "error"
    """The message fails, with the row and the variable's name."""
    EMPTY = "empty"
    """The value is empty text (and `default(...)` in the template applies). Never "None"."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A stored file that goes with every message."""

    object_key: str
    filename: str
    content_type: str
    content_id: str | None = None
    """Set for an inline image: the template refers to it as `cid:<content_id>`."""


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """An upload that is to go with every message."""

    upload_id: str
    filename: str | None = None
    """None: the upload's."""
    content_id: str | None = None
    """Set for an inline image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What every message of a campaign has in common besides its template: headers, variables, tracking."""

    from_: str
    """An address, or `Name <address>`."""
    subject: str = ""
    """May use variables. Empty in a new campaign's spec: the template's."""
    reply_to: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    """Values for every recipient; a column of the same name wins."""
    missing: MissingPolicy = MissingPolicy.ERROR
    track_opens: bool = True
    track_clicks: bool = True
    topic: str | None = None
    """What a recipient unsubscribes from; None: all mail of the tenant."""


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The campaign's own copies of its template and attachments in the object store."""

    html_key: str
    """Object key of the HTML template (MJML already compiled)."""
    text_key: str | None = None
    """Object key of the text template; None: derived from the HTML."""
    attachments: tuple[Attachment, ...] = ()
    public_url: str | None = None
    """Base of the links in its messages, frozen: the link table is made for it."""


@dataclass(frozen=True, slots=True)
class Import:
    """How the upload became messages: counts of what the splitter recorded, final once the status is past importing."""

    upload_key: str
    filename: str
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


@dataclass(frozen=True, slots=True)
class Schedule:
    """When sending starts."""

    at: Instant
    timezone: str
    """The IANA zone that the user chose, for display."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSpec:
    """What a campaign sends, to whom and by which rules.

    The API parses its body into one, the CLI builds one, and the record keeps it."""

    name: str
    content: Content
    provider: str = "default"
    """A provider's name, or a provider URL (see settings `POSTROOM_MAIL`)."""
    schedule: Schedule | None = None
    """None: as soon as it is imported and started."""
    policies: Policies = field(default_factory=Policies)
    template_id: str | None = None
    """The stored template it is made from; None: a file. The campaign keeps its own copy (`StoredFiles`)."""
    template_version: int | None = None
    """None: the newest when it is created."""
    upload_id: str | None = None
    """The upload with its recipients; None: a file."""
    email_column: str | None = None
    """Heading of the column of addresses; None: recognised from the header."""
    headings: tuple[tuple[str, str], ...] = ()
    """Variable and heading of the column that feeds it, where they differ."""
    attachments: tuple[AttachmentSpec, ...] = ()
    callback_url: str | None = None
    """Receives its events, besides the tenant's own callbacks; https."""
    created_by: str | None = None
    """Shown to people."""

    def headings_of(self, columns: Sequence[str]) -> list[str]:
        """The headings that feed these variables, in their order."""
        headings = dict(self.headings)
        return [headings.get(name, name) for name in columns]


@dataclass(frozen=True, slots=True)
class Campaign:
    """The record: the spec, and what became of it."""

    ref: CampaignRef
    spec: CampaignSpec
    status: CampaignStatus
    files: StoredFiles
    source: Import
    created_at: Instant
    started_at: Instant | None = None
    """When it first began to send."""
    sending_since: Instant | None = None
    """When it last began to send: `give_up_after_ms` counts from here."""
    finished_at: Instant | None = None
    reason: str | None = None
    """Why it is paused, cancelled or failed."""
    start_when_ready: bool = False
    """Send, or schedule, as soon as the import is done."""
    paused_at: Instant | None = None
    """When it was last paused."""
    version: int = 0
    """The store's, for the conditional write."""

    @property
    def policies(self) -> Policies:
        """The rules of its spec."""
        return self.spec.policies


def adds_up(source: Import, counts: Counts) -> bool:
    """Whether every row of the upload is accounted for exactly once."""
    return source.rows == source.invalid + source.duplicate + source.suppressed + counts.total


def may_complete(source: Import, counts: Counts, *, unsettled: int) -> bool:
    """The only gate to `completed`: all rows accounted for, no message waiting, no `unknown` that a policy has yet to decide."""
    return adds_up(source, counts) and counts.waiting == 0 and unsettled == 0
