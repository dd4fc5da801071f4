"""What a mail that came in can be: one of these, and nothing believed but what it says of itself.

None of it is proof: whoever can reach the listener can write a report. It counts only together with a token of ours that opens
(model.wire): the address it came to, or one in what it returns.

A reading as an event of the message that it is about.
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
    """What a delivery report says was done for a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    """Not yet; the reporter goes on trying."""
    DELIVERED = "delivered"
    RELAYED = "relayed"
    """To a system that will report nothing."""
    EXPANDED = "expanded"
    """To the members of a list."""


class QuotedTokens(NamedTuple):
    """What of ours a report quotes, for one that came to an address that tells nothing. Candidates, not checked."""

    return_paths: tuple[str, ...] = ()
    """Local parts, for `model.wire.open_return_path`."""
    hits: tuple[str, ...] = ()
    """Recipient tokens, for `open_hit`."""
    unsubscribes: tuple[str, ...] = ()
    """Unsubscribe tokens, for `open_unsubscribe`."""
    message_id: str = ""
    """Of the mail that is returned, as it stands there."""
    feedback_id: str = ""


NO_TOKENS = QuotedTokens()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientReport:
    """What happened to one recipient."""

    action: DsnAction
    bounce: Bounce
    """Of what failed, and of what waits; of the others it means nothing."""
    address: str = ""
    """Where it failed: the address itself, or where a forward led. Empty: not said."""
    original: str = ""
    """As we wrote it, if the reporter says so."""
    status: str = ""
    """Enhanced code (RFC 3463)."""
    diagnostic: str = ""
    """The remote server's reply, else the reporter's own words."""
    remote_mta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMail:
    """What every kind has."""

    identity: str
    """A digest: the same for the same mail, however often it comes."""
    sent_at: Instant | None = None
    """Its own `Date`; whose clock may be wrong."""
    raw: str = ""
    """The part that says it, for people; up to `model.event.MAX_RAW` characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport(ReportMail):
    """A delivery report: standard (RFC 3464), or read from prose."""

    recipients: tuple[RecipientReport, ...]
    """At least one."""
    standard: bool
    traces: QuotedTokens = NO_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class ArfReport(ReportMail):
    """A feedback report (RFC 5965): somebody pressed "this is spam", or the like."""

    kind: str
    """`abuse`, `fraud`, `virus`, `not-spam`, `opt-out`, `auth-failure`, `other` …"""
    recipients: tuple[str, ...] = ()
    """Whom the mail went to, where the reporter does not hide it."""
    user_agent: str = ""
    traces: QuotedTokens = NO_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoReply(ReportMail):
    """A machine answers for a person: absence, receipt. Never a bounce."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubscribeRequest(ReportMail):
    """Somebody, or their mail program, wants no more (RFC 2369, mailto)."""

    token: str = ""
    """For `model.wire.open_unsubscribe`. Empty: the address it came to says who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(ReportMail):
    """A filter wants to see whether we are a person. Nobody answers it."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(ReportMail):
    """None of these: an answer by a person, spam, what nobody can read."""

    subject: str = ""


ParsedReport = DeliveryReport | ArfReport | AutoReply | UnsubscribeRequest | Challenge | Other


OLDEST_MS: Final = 7 * 24 * 3_600_000


"""A reporter's clock is believed this far back, and not ahead: mail servers give up after five days."""


_MILDEST_FIRST = (DsnAction.DELIVERED, DsnAction.RELAYED, DsnAction.EXPANDED, DsnAction.DELAYED, DsnAction.FAILED)


_NO_COMPLAINTS = frozenset({"not-spam", "virus", "auth-failure", "dmarc"})


"""Not said by a recipient, or the contrary of a complaint. A type nobody knows counts as `other` (RFC 5965 §7.3), a complaint."""


_OPT_OUTS = frozenset({"opt-out", "opt-out-list"})


def event_from_report(reading: ParsedReport, ref: MessageRef, *, at: Instant) -> Event | None:
    """What it means for that attempt; None: nothing. `at`: when it came in. The same report again has the same id."""
    match reading:
        case DeliveryReport():
            return _delivery(reading, ref, at)
        case ArfReport() if reading.kind in _OPT_OUTS:
            return _event(reading, ref, at, EventKind.UNSUBSCRIBED, "arf", detail=reading.kind)
        case ArfReport() if reading.kind not in _NO_COMPLAINTS:
            return _event(reading, ref, at, EventKind.COMPLAINED, "arf", detail=f"{reading.kind} {reading.user_agent}".strip())
        case UnsubscribeRequest():
            return _event(reading, ref, at, EventKind.UNSUBSCRIBED, "unsubscribe", detail="by mail")
        case _:
            return None


def primary_recipient(report: DeliveryReport) -> RecipientReport:
    """Our messages have one recipient each. Where a report names several, a forward or a list spread it: what went best is what
    happened to the address we wrote to; among failures the one that is least lasting."""

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
    reading: ParsedReport,
    ref: MessageRef,
    at: Instant,
    kind: EventKind,
    source: str,
    *,
    detail: str,
    recipient: RecipientReport | None = None,
) -> Event:
    identity = f"{reading.identity} {kind} {ref.tenant} {ref.campaign} {ref.batch} {ref.key.hex()} {ref.attempt}"
    sent_at = reading.sent_at
    return Event(
        kind=kind,
        attempt=ref.attempt,
        at=sent_at if sent_at is not None and at - OLDEST_MS <= sent_at <= at else at,
        id=f"{source}-{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}",
        source=source,
        bounce=recipient.bounce if recipient else None,
        detail=" ".join(detail.split())[:MAX_DETAIL],
        raw=reading.raw,
    )
