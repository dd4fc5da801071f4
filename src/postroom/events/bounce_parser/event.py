"""A reading as an event of the message that it is about."""

from __future__ import annotations

import hashlib
from typing import Final

from postroom.clock import Instant
from postroom.events.bounce_parser.readings import Action, ArfReport, DeliveryReport, Reading, RecipientReport, UnsubscribeRequest
from postroom.model.event import MAX_DETAIL, BounceType, Event, EventKind
from postroom.model.wire import MessageRef

OLDEST_MS: Final = 7 * 24 * 3_600_000
"""A reporter's clock is believed this far back, and not ahead: mail servers give up after five days."""

_MILDEST_FIRST = (Action.DELIVERED, Action.RELAYED, Action.EXPANDED, Action.DELAYED, Action.FAILED)
_NO_COMPLAINTS = frozenset({"not-spam", "virus", "auth-failure", "dmarc"})
"""Not said by a recipient, or the contrary of a complaint. A type nobody knows counts as `other` (RFC 5965 §7.3), a complaint."""
_OPT_OUTS = frozenset({"opt-out", "opt-out-list"})


def event_of(reading: Reading, ref: MessageRef, *, at: Instant) -> Event | None:
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


def main_recipient(report: DeliveryReport) -> RecipientReport:
    """Our messages have one recipient each. Where a report names several, a forward or a list spread it: what went best is what
    happened to the address we wrote to; among failures the one that is least lasting."""

    def harm(recipient: RecipientReport) -> tuple[int, bool]:
        return _MILDEST_FIRST.index(recipient.action), recipient.bounce.type is BounceType.HARD

    return min(report.recipients, key=harm)


def _delivery(report: DeliveryReport, ref: MessageRef, at: Instant) -> Event:
    recipient = main_recipient(report)
    detail = recipient.diagnostic or recipient.status
    match recipient.action:
        case Action.FAILED:
            return _event(report, ref, at, EventKind.BOUNCED, "dsn", detail=detail, recipient=recipient)
        case Action.DELAYED:
            return _event(report, ref, at, EventKind.DELAYED, "dsn", detail=detail, recipient=recipient)
        case _:
            return _event(report, ref, at, EventKind.DELIVERED, "dsn", detail=detail)


def _event(
    reading: Reading,
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
