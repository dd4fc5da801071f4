"""Kinds of reports that arrive by mail, and the event each means for a message.

A report is no proof: anyone can write one. It counts only together with a token of ours that can be opened (model.tokens): in the
address it was sent to, or in the mail it returns. See `events.inbound_mail`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from postroom.clock import Instant
from postroom.model.event import MAX_DETAIL, Bounce, BounceType, Event, EventKind
from postroom.model.tokens import MessageRef


class DsnAction(StrEnum):
    """The `Action` field of a delivery report (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    """The reporter goes on trying."""
    DELIVERED = "delivered"
    RELAYED = "relayed"
    """To a system that sends no reports."""
    EXPANDED = "expanded"
    """To the members of a list."""


class QuotedTokens(NamedTuple):
    """Tokens of ours in a report's returned mail. They are candidates: not verified yet."""

    return_paths: tuple[str, ...] = ()
    """Local parts, for `model.tokens.parse_return_path`."""
    recipient_tokens: tuple[str, ...] = ()
    """Recipient tokens, for `open_hit`."""
    unsubscribe_tokens: tuple[str, ...] = ()
    """Unsubscribe tokens, for `open_unsubscribe`."""
    message_id: str = ""
    """The returned mail's Message-ID."""
    feedback_id: str = ""


NO_TOKENS = QuotedTokens()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientReport:
    """What a report says of one recipient."""

    action: DsnAction
    bounce: Bounce
    """Has no meaning unless the action is failed or delayed."""
    address: str = ""
    """Final-Recipient: the address, or where it was forwarded to. Empty if not given."""
    original: str = ""
    """Original-Recipient. Empty if not given."""
    status: str = ""
    """Enhanced status code (RFC 3463)."""
    diagnostic: str = ""
    """The remote server's reply, else the reporter's text."""
    remote_mta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMail:
    """Fields of every kind."""

    identity: str
    """A digest that is the same each time the same mail comes."""
    sent_at: Instant | None = None
    """The mail's `Date`, which may be wrong."""
    raw: str = ""
    """The relevant part, for people; up to `model.event.MAX_RAW` characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport(ReportMail):
    """A delivery report (bounce): standard (RFC 3464), or found in prose."""

    recipients: tuple[RecipientReport, ...]
    """At least one."""
    standard: bool
    quoted: QuotedTokens = NO_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class ArfReport(ReportMail):
    """A feedback report (RFC 5965): a recipient marked the message as spam, or the like."""

    feedback_type: str
    """`abuse`, `fraud`, `virus`, `not-spam`, `opt-out`, `auth-failure`, `other` …"""
    recipients: tuple[str, ...] = ()
    """The recipients, if the reporter names them."""
    user_agent: str = ""
    quoted: QuotedTokens = NO_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoReply(ReportMail):
    """An automatic reply: absence message or receipt. Never a bounce."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubscribeRequest(ReportMail):
    """A recipient or their mail program asks to unsubscribe by mail (RFC 2369)."""

    token: str = ""
    """For `model.tokens.parse_unsubscribe_token`. Empty if the recipient address names the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(ReportMail):
    """A filter asks the sender to confirm the message. It is not answered."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(ReportMail):
    """None of these: a reply by a person, spam, an unreadable mail."""

    subject: str = ""


ParsedReport = DeliveryReport | ArfReport | AutoReply | UnsubscribeRequest | Challenge | Other
OLDEST_MS: Final = 7 * 24 * 3_600_000
"""Reported times further back than this, or in the future, are replaced: mail servers give up after five days."""
_MILDEST_FIRST = (DsnAction.DELIVERED, DsnAction.RELAYED, DsnAction.EXPANDED, DsnAction.DELAYED, DsnAction.FAILED)
_NO_COMPLAINTS = frozenset({"not-spam", "virus", "auth-failure", "dmarc"})
"""Not from a recipient, or the opposite of a complaint. Unknown types count as `other` (RFC 5965 7.3), which is a complaint."""
_OPT_OUTS = frozenset({"opt-out", "opt-out-list"})


def event_from_report(report: ParsedReport, ref: MessageRef, *, at: Instant) -> Event | None:
    """The event that a report means for an attempt; None if it means none. `at`: when it was received.

    The same report gives an event with the same id each time.
    """
    match report:
        case DeliveryReport():
            return _delivery(report, ref, at)
        case ArfReport() if report.feedback_type in _OPT_OUTS:
            return _event(report, ref, at, EventKind.UNSUBSCRIBED, "arf", detail=report.feedback_type)
        case ArfReport() if report.feedback_type not in _NO_COMPLAINTS:
            return _event(
                report, ref, at, EventKind.COMPLAINED, "arf", detail=f"{report.feedback_type} {report.user_agent}".strip()
            )
        case UnsubscribeRequest():
            return _event(report, ref, at, EventKind.UNSUBSCRIBED, "unsubscribe", detail="by mail")
        case _:
            return None


def primary_recipient(report: DeliveryReport) -> RecipientReport:
    """The recipient whose result counts: the best result, and among failures the least permanent.

    Our messages have one recipient each. A report names several if the message was forwarded or expanded by a list.
    """

    def harm(recipient: RecipientReport) -> tuple[int, bool]:
        return _MILDEST_FIRST.index(recipient.action), recipient.bounce.type is BounceType.HARD

    return min(report.recipients, key=harm)


def _delivery(report: DeliveryReport, ref: MessageRef, at: Instant) -> Event:
    recipient = primary_recipient(report)
    detail = recipient.diagnostic or recipient.status
    match recipient.action:
        case DsnAction.FAILED:
            return _event(report, ref, at, EventKind.BOUNCED, "dsn", detail=detail, recipient=recipient)
        case DsnAction.DELAYED:
            return _event(report, ref, at, EventKind.DELAYED, "dsn", detail=detail, recipient=recipient)
        case _:
            return _event(report, ref, at, EventKind.DELIVERED, "dsn", detail=detail)


def _event(
    report: ParsedReport,
    ref: MessageRef,
    at: Instant,
    kind: EventKind,
    source: str,
    *,
    detail: str,
    recipient: RecipientReport | None = None,
) -> Event:
    identity = f"{report.identity} {kind} {ref.tenant} {ref.campaign} {ref.batch} {ref.key.hex()} {ref.attempt}"
    sent_at = report.sent_at
    return Event(
        kind=kind,
        attempt=ref.attempt,
        at=sent_at if sent_at is not None and at - OLDEST_MS <= sent_at <= at else at,
        id=f"{source}-{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}",
        source=source,
        bounce=recipient.bounce if recipient else None,
        detail=" ".join(detail.split())[:MAX_DETAIL],
        raw=report.raw,
    )
