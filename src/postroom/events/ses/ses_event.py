"""SES's words for bounces in ours: type and sub-type say how lasting, the receiving server's status code says why.

"Contents for bounce objects" in the SES developer guide lists the sub-types. SES calls `Permanent` what it will suppress, so that
is hard; but a content that was refused says nothing about the address, and the guide counts it as transient.

What a notice of SES says, in our vocabulary: for each recipient it is about, one event of one attempt at one message.

Both of SES's formats are read: event publishing (`eventType`, from a configuration set; it repeats the tags that name the
message) and identity notifications (`notificationType`; they carry none, so they are of no message we could name: ignored).

    Send                 sent                     Reject             rejected
    Delivery             delivered                Rendering Failure  rejected
    DeliveryDelay        delayed                  Open, Click        opened, clicked
    Bounce               bounced, but see below   Subscription       unsubscribed, or resubscribed
    Complaint            complained; feedback that is no complaint (`not-spam`, `auth-failure`) nothing

An automatic reply (out of office) comes as a bounce `Transient`, `General` that carries no status and no reply of a server. It
proves that the message arrived, so it is `delivered`; so is the rare soft bounce that SES can say nothing about.

SNS numbers deliveries, not events, and may deliver twice; so an event's id is made of what it says: the message, the kind, the
time, the recipient, and of a click the link.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.event import MAX_DETAIL, MAX_RAW, MAX_URL, Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.tokens import MessageRef, parse_ses_tags

_TYPES = {"Permanent": BounceType.HARD, "Transient": BounceType.SOFT}
_SUBTYPES = {
    "NoEmail": BounceClass.MAILBOX,
    "Suppressed": BounceClass.MAILBOX,
    "OnAccountSuppressionList": BounceClass.MAILBOX,
    "UnsubscribedRecipient": BounceClass.POLICY,
    "MailboxFull": BounceClass.QUOTA,
    "MessageTooLarge": BounceClass.SIZE,
    "ContentRejected": BounceClass.CONTENT,
    "AttachmentRejected": BounceClass.CONTENT,
    "CustomTimeoutExceeded": BounceClass.NETWORK,
}
_CODES = (
    (re.compile(r"[45]\.1\.(2|10)"), BounceClass.DOMAIN),
    (re.compile(r"[45]\.1\.[0-46]"), BounceClass.MAILBOX),
    (re.compile(r"[45]\.2\.1"), BounceClass.DISABLED),
    (re.compile(r"[45]\.2\.2"), BounceClass.QUOTA),
    (re.compile(r"[45]\.(2\.3|3\.4)"), BounceClass.SIZE),
    (re.compile(r"[45]\.4\.[0-9]+"), BounceClass.NETWORK),
    (re.compile(r"[45]\.5\.[0-9]+"), BounceClass.PROTOCOL),
    (re.compile(r"[45]\.6\.[0-9]+"), BounceClass.CONTENT),
    (re.compile(r"[45]\.7\.[0-9]+"), BounceClass.POLICY),
)
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)


def bounce_from_ses(kind: str, subtype: str, status: str) -> Bounce:
    """A bounce of SES; each of its words may be missing, or new."""
    code = status if _STATUS.fullmatch(status) else ""
    category = _SUBTYPES.get(subtype) or _by_code(code)
    if category is BounceClass.OTHER and kind == "Permanent":
        category = BounceClass.MAILBOX  # "General": the address is the usual reason, and SES names no other
    return Bounce(_TYPES.get(kind, BounceType.UNDETERMINED), category, code)


def _by_code(code: str) -> BounceClass:
    return next((category for pattern, category in _CODES if pattern.fullmatch(code)), BounceClass.OTHER)


MAX_RECIPIENTS = 50
"""A message of SES has no more."""
_NO_COMPLAINTS = frozenset({"not-spam", "auth-failure"})


class RecipientEvent(NamedTuple):
    """One event, and whose it is."""

    ref: MessageRef
    recipient: str
    """To whom SES sent the mail. Where it went to several (none of ours does), whom the notice names: of a complaint that may be
    one of those who could have complained."""
    event: Event
    provider_id: str
    """SES's own id of the message."""
    everything: bool = False
    """Of an unsubscribe: it is of all mail."""


class _Who(msgspec.Struct, rename="camel"):
    email_address: str
    status: str | None = None
    diagnostic_code: str | None = None
    action: str | None = None


class _Mail(msgspec.Struct, rename="camel"):
    message_id: str
    timestamp: str
    destination: list[str] = []
    tags: dict[str, list[str]] = {}


class _Timed(msgspec.Struct, rename="camel"):
    timestamp: str | None = None


class _Delivery(_Timed, rename="camel"):
    recipients: list[str] = []
    smtp_response: str | None = None


class _Bounce(_Timed, rename="camel"):
    bounce_type: str = ""
    bounce_sub_type: str = ""
    bounced_recipients: list[_Who] = []


class _Complaint(_Timed, rename="camel"):
    complained_recipients: list[_Who] = []
    complaint_sub_type: str | None = None
    complaint_feedback_type: str | None = None
    user_agent: str | None = None


class _Delay(_Timed, rename="camel"):
    delay_type: str = ""
    delayed_recipients: list[_Who] = []


class _Reject(msgspec.Struct, rename="camel"):
    reason: str | None = None


class _Failure(msgspec.Struct, rename="camel"):
    error_message: str | None = None


class _Hit(_Timed, rename="camel"):
    user_agent: str | None = None
    link: str | None = None


class _Preferences(msgspec.Struct, rename="camel"):
    unsubscribe_all: bool = False
    topic_subscription_status: list[dict[str, str]] | None = None
    topic_default_subscription_status: list[dict[str, str]] | None = None


class _Subscription(_Timed, rename="camel"):
    new_topic_preferences: _Preferences | None = None
    source: str | None = None


class _Notice(msgspec.Struct, rename="camel"):
    mail: _Mail
    event_type: str | None = None
    notification_type: str | None = None
    delivery: _Delivery | None = None
    bounce: _Bounce | None = None
    complaint: _Complaint | None = None
    delivery_delay: _Delay | None = None
    reject: _Reject | None = None
    failure: _Failure | None = None
    open: _Hit | None = None
    click: _Hit | None = None
    subscription: _Subscription | None = None


class _Said(NamedTuple):
    """What a notice says of one recipient."""

    recipient: str
    kind: EventKind
    at: str | None
    """None: when the mail was sent."""
    detail: str = ""
    bounce: Bounce | None = None
    url: str = ""
    everything: bool = False


_DECODER = msgspec.json.Decoder(_Notice)
_NOTHING_MORE = frozenset({"send", "delivery"})
"""Notices of which the event says all: a notice takes 1 to 3 KB, and every message that arrives has one of each."""


def parse_ses_event(text: str) -> list[RecipientEvent]:
    """Every event in a notice (an envelope's message); empty where it says nothing of a message of ours, or nothing we count.
    `Invalid`: it is no notice of SES."""
    try:
        notice = _DECODER.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"this is no notice of SES: {error}") from error
    said = _SAYS.get(_kind(notice))
    if said is None:
        return []
    try:
        ref = parse_ses_tags(notice.mail.tags)
    except Invalid:
        return []
    return [_charge(ref, notice, each, text) for each in said(notice)[:MAX_RECIPIENTS] if _is_text(each.recipient)]


def _kind(notice: _Notice) -> str:
    return (notice.event_type or notice.notification_type or "").replace(" ", "").lower()


def _charge(ref: MessageRef, notice: _Notice, said: _Said, raw: str) -> RecipientEvent:
    at = _instant(said.at or notice.mail.timestamp)
    parts = (notice.mail.message_id, _kind(notice), str(at), said.recipient.lower(), said.url, str(ref.attempt))
    event = Event(
        kind=said.kind,
        attempt=ref.attempt,
        at=at,
        id="ses-" + hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40],
        source="ses",
        bounce=said.bounce,
        detail=_clean(said.detail, MAX_DETAIL),
        url=_clean(said.url, MAX_URL),
        raw="" if _kind(notice) in _NOTHING_MORE else _clean(raw, MAX_RAW),
    )
    whom = _only(notice) or [said.recipient]  # a mail that was forwarded bounces from another address
    return RecipientEvent(ref, whom[0][:320], event, _clean(notice.mail.message_id, 100), said.everything)


def _sent(notice: _Notice) -> list[_Said]:
    return [_Said(address, EventKind.SENT, None) for address in notice.mail.destination]


def _delivered(notice: _Notice) -> list[_Said]:
    part = notice.delivery or _Delivery()
    detail = part.smtp_response or ""
    return [_Said(who, EventKind.DELIVERED, part.timestamp, detail) for who in part.recipients or notice.mail.destination]


def _bounced(notice: _Notice) -> list[_Said]:
    part = notice.bounce or _Bounce()
    return [_one_bounce(part, who) for who in part.bounced_recipients]


def _one_bounce(part: _Bounce, who: _Who) -> _Said:
    bounce = bounce_from_ses(part.bounce_type, part.bounce_sub_type, who.status or "")
    detail = who.diagnostic_code or f"{part.bounce_type} {part.bounce_sub_type}"
    silent = not (who.status or who.diagnostic_code or who.action)
    if silent and bounce.type is BounceType.SOFT and part.bounce_sub_type == "General":
        return _Said(who.email_address, EventKind.DELIVERED, part.timestamp, "answered by an automatic reply")
    return _Said(who.email_address, EventKind.BOUNCED, part.timestamp, detail, bounce)


def _complained(notice: _Notice) -> list[_Said]:
    part = notice.complaint or _Complaint()
    if part.complaint_feedback_type in _NO_COMPLAINTS:
        return []
    words = (part.complaint_feedback_type, part.complaint_sub_type, part.user_agent)
    detail = ", ".join(word for word in words if word)
    return [_Said(who.email_address, EventKind.COMPLAINED, part.timestamp, detail) for who in part.complained_recipients]


def _delayed(notice: _Notice) -> list[_Said]:
    part = notice.delivery_delay or _Delay()
    return [
        _Said(
            who.email_address, EventKind.DELAYED, part.timestamp, f"{part.delay_type}: {who.diagnostic_code or who.status or ''}"
        )
        for who in part.delayed_recipients
    ]


def _rejected(notice: _Notice) -> list[_Said]:
    detail = (notice.reject.reason if notice.reject else notice.failure.error_message if notice.failure else "") or ""
    return [_Said(address, EventKind.REJECTED, None, detail) for address in notice.mail.destination]


def _opened(notice: _Notice) -> list[_Said]:
    part = notice.open or _Hit()
    return [_Said(who, EventKind.OPENED, part.timestamp, part.user_agent or "") for who in _only(notice)]


def _clicked(notice: _Notice) -> list[_Said]:
    part = notice.click or _Hit()
    return [_Said(who, EventKind.CLICKED, part.timestamp, part.user_agent or "", url=part.link or "") for who in _only(notice)]


def _subscribed(notice: _Notice) -> list[_Said]:
    part = notice.subscription or _Subscription()
    wishes = part.new_topic_preferences
    if wishes is None:
        return []
    topics = wishes.topic_subscription_status or wishes.topic_default_subscription_status or []
    out = [topic.get("topicName", "") for topic in topics if topic.get("subscriptionStatus", "").lower() == "optout"]
    leaves = wishes.unsubscribe_all or bool(out)
    detail = "everything" if wishes.unsubscribe_all else ", ".join(out)
    kind = EventKind.UNSUBSCRIBED if leaves else EventKind.RESUBSCRIBED
    return [_Said(who, kind, part.timestamp, detail, everything=wishes.unsubscribe_all) for who in _only(notice)]


def _only(notice: _Notice) -> list[str]:
    """The mail's one recipient; empty where it had several. A message of ours has one."""
    return notice.mail.destination if len(notice.mail.destination) == 1 else []


_SAYS: dict[str, Callable[[_Notice], Sequence[_Said]]] = {
    "send": _sent,
    "delivery": _delivered,
    "bounce": _bounced,
    "complaint": _complained,
    "deliverydelay": _delayed,
    "reject": _rejected,
    "renderingfailure": _rejected,
    "open": _opened,
    "click": _clicked,
    "subscription": _subscribed,
}


def _instant(text: str) -> Instant:
    try:
        at = datetime.fromisoformat(text)
        return Instant(round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise Invalid("a notice of SES with a time that is none") from error


def _is_text(address: str) -> bool:
    return 0 < len(address) <= 998 and address.isprintable()


def _clean(text: str, length: int) -> str:
    """What every store can keep."""
    return text[:length].replace("\0", " ").encode("utf-8", "replace").decode("utf-8", "replace")
