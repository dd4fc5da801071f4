"""Parses Amazon SES events into our vocabulary: for each recipient an event is about, one event of one attempt of a message.

Two formats: event publishing (`eventType`, from a configuration set), and notifications of an identity (`notificationType`). Only
the first repeats the tags that name the message, so notifications are ignored.

- https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
- https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html

    Send                 sent                     Reject             rejected
    Delivery             delivered                Rendering Failure  rejected
    DeliveryDelay        delayed                  Open, Click        opened, clicked
    Bounce               bounced, but see below   Subscription       unsubscribed, or resubscribed
    Complaint            complained; nothing if the feedback type is `not-spam` or `auth-failure`

An automatic reply (out of office) comes as a bounce `Transient`, `General` without a status and a diagnostic code. It proves that
the message arrived, so it is `delivered`. The rare soft bounce without any detail is treated the same.

Bounce types: SES calls `Permanent` what it will suppress, so that is hard. Refused content says nothing about the address; SES
counts it as transient. The sub-type or the receiving server's status code gives the class.

SNS numbers deliveries, not events, and may deliver twice. So an event's id is derived from the SES message id, the type, the
time, the recipient, the link and the attempt.
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
    """Classify by an SES bounce's type, sub-type and status code. Each may be empty or unknown."""
    code = status if _STATUS.fullmatch(status) else ""
    category = _SUBTYPES.get(subtype) or _by_code(code)
    if category is BounceClass.OTHER and kind == "Permanent":
        category = BounceClass.MAILBOX  # "General": the address is the usual reason, and SES names no other
    return Bounce(_TYPES.get(kind, BounceType.UNDETERMINED), category, code)


def _by_code(code: str) -> BounceClass:
    return next((category for pattern, category in _CODES if pattern.fullmatch(code)), BounceClass.OTHER)


MAX_RECIPIENTS = 50
"""SES sends a message to at most this many."""
_NOT_COMPLAINTS = frozenset({"not-spam", "auth-failure"})


class RecipientEvent(NamedTuple):
    """One event of one recipient."""

    ref: MessageRef
    recipient: str
    """The address SES sent the mail to. If it went to several (ours never do), the one that the event names, which in a complaint
    may be anyone of them."""
    event: Event
    ses_message_id: str
    """SES's id of the message (`mail.messageId`)."""
    all_mail: bool = False
    """An unsubscribe from all mail, not from a topic."""


class _Recipient(msgspec.Struct, rename="camel"):
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
    bounced_recipients: list[_Recipient] = []


class _Complaint(_Timed, rename="camel"):
    complained_recipients: list[_Recipient] = []
    complaint_sub_type: str | None = None
    complaint_feedback_type: str | None = None
    user_agent: str | None = None


class _Delay(_Timed, rename="camel"):
    delay_type: str = ""
    delayed_recipients: list[_Recipient] = []


class _Reject(msgspec.Struct, rename="camel"):
    reason: str | None = None


class _Failure(msgspec.Struct, rename="camel"):
    error_message: str | None = None


class _Engagement(_Timed, rename="camel"):
    user_agent: str | None = None
    link: str | None = None


class _Preferences(msgspec.Struct, rename="camel"):
    unsubscribe_all: bool = False
    topic_subscription_status: list[dict[str, str]] | None = None
    topic_default_subscription_status: list[dict[str, str]] | None = None


class _Subscription(_Timed, rename="camel"):
    new_topic_preferences: _Preferences | None = None
    source: str | None = None


class _SesEvent(msgspec.Struct, rename="camel"):
    mail: _Mail
    event_type: str | None = None
    notification_type: str | None = None
    delivery: _Delivery | None = None
    bounce: _Bounce | None = None
    complaint: _Complaint | None = None
    delivery_delay: _Delay | None = None
    reject: _Reject | None = None
    failure: _Failure | None = None
    open: _Engagement | None = None
    click: _Engagement | None = None
    subscription: _Subscription | None = None


class _Reported(NamedTuple):
    """What an SES event says of one recipient."""

    recipient: str
    kind: EventKind
    at: str | None
    """A timestamp; None for the time the mail was sent."""
    detail: str = ""
    bounce: Bounce | None = None
    url: str = ""
    all_mail: bool = False


_DECODER = msgspec.json.Decoder(_SesEvent)
_WITHOUT_RAW = frozenset({"send", "delivery"})
"""Types stored without their raw JSON: it adds nothing, takes 1 to 3 KB, and every delivered message has one of each."""


def parse_ses_event(text: str) -> list[RecipientEvent]:
    """The events in an SES event (an SNS envelope's message); empty if it has no tags of ours, or a type without meaning.

    Raises `Invalid` if it is no SES event.
    """
    try:
        event = _DECODER.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"this is no SES event: {error}") from error
    read = _READERS.get(_event_type(event))
    if read is None:
        return []
    try:
        ref = parse_ses_tags(event.mail.tags)
    except Invalid:
        return []
    return [_recipient_event(ref, event, each, text) for each in read(event)[:MAX_RECIPIENTS] if _is_text(each.recipient)]


def _event_type(event: _SesEvent) -> str:
    return (event.event_type or event.notification_type or "").replace(" ", "").lower()


def _recipient_event(ref: MessageRef, event: _SesEvent, reported: _Reported, raw: str) -> RecipientEvent:
    at = _instant(reported.at or event.mail.timestamp)
    parts = (event.mail.message_id, _event_type(event), str(at), reported.recipient.lower(), reported.url, str(ref.attempt))
    normalised = Event(
        kind=reported.kind,
        attempt=ref.attempt,
        at=at,
        id="ses-" + hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40],
        source="ses",
        bounce=reported.bounce,
        detail=_clean(reported.detail, MAX_DETAIL),
        url=_clean(reported.url, MAX_URL),
        raw="" if _event_type(event) in _WITHOUT_RAW else _clean(raw, MAX_RAW),
    )
    recipient = (_sole_recipient(event) or [reported.recipient])[0]  # a forwarded mail bounces from another address
    return RecipientEvent(ref, recipient[:320], normalised, _clean(event.mail.message_id, 100), reported.all_mail)


def _sent(event: _SesEvent) -> list[_Reported]:
    return [_Reported(address, EventKind.SENT, None) for address in event.mail.destination]


def _delivered(event: _SesEvent) -> list[_Reported]:
    part = event.delivery or _Delivery()
    detail = part.smtp_response or ""
    return [_Reported(who, EventKind.DELIVERED, part.timestamp, detail) for who in part.recipients or event.mail.destination]


def _bounced(event: _SesEvent) -> list[_Reported]:
    part = event.bounce or _Bounce()
    return [_one_bounce(part, who) for who in part.bounced_recipients]


def _one_bounce(part: _Bounce, who: _Recipient) -> _Reported:
    bounce = bounce_from_ses(part.bounce_type, part.bounce_sub_type, who.status or "")
    detail = who.diagnostic_code or f"{part.bounce_type} {part.bounce_sub_type}"
    silent = not (who.status or who.diagnostic_code or who.action)
    if silent and bounce.type is BounceType.SOFT and part.bounce_sub_type == "General":
        return _Reported(who.email_address, EventKind.DELIVERED, part.timestamp, "answered by an automatic reply")
    return _Reported(who.email_address, EventKind.BOUNCED, part.timestamp, detail, bounce)


def _complained(event: _SesEvent) -> list[_Reported]:
    part = event.complaint or _Complaint()
    if part.complaint_feedback_type in _NOT_COMPLAINTS:
        return []
    words = (part.complaint_feedback_type, part.complaint_sub_type, part.user_agent)
    detail = ", ".join(word for word in words if word)
    return [_Reported(who.email_address, EventKind.COMPLAINED, part.timestamp, detail) for who in part.complained_recipients]


def _delayed(event: _SesEvent) -> list[_Reported]:
    part = event.delivery_delay or _Delay()
    return [
        _Reported(
            who.email_address, EventKind.DELAYED, part.timestamp, f"{part.delay_type}: {who.diagnostic_code or who.status or ''}"
        )
        for who in part.delayed_recipients
    ]


def _rejected(event: _SesEvent) -> list[_Reported]:
    detail = (event.reject.reason if event.reject else event.failure.error_message if event.failure else "") or ""
    return [_Reported(address, EventKind.REJECTED, None, detail) for address in event.mail.destination]


def _opened(event: _SesEvent) -> list[_Reported]:
    part = event.open or _Engagement()
    return [_Reported(who, EventKind.OPENED, part.timestamp, part.user_agent or "") for who in _sole_recipient(event)]


def _clicked(event: _SesEvent) -> list[_Reported]:
    part = event.click or _Engagement()
    return [
        _Reported(who, EventKind.CLICKED, part.timestamp, part.user_agent or "", url=part.link or "")
        for who in _sole_recipient(event)
    ]


def _subscribed(event: _SesEvent) -> list[_Reported]:
    part = event.subscription or _Subscription()
    preferences = part.new_topic_preferences
    if preferences is None:
        return []
    topics = preferences.topic_subscription_status or preferences.topic_default_subscription_status or []
    out = [topic.get("topicName", "") for topic in topics if topic.get("subscriptionStatus", "").lower() == "optout"]
    unsubscribed = preferences.unsubscribe_all or bool(out)
    detail = "everything" if preferences.unsubscribe_all else ", ".join(out)
    kind = EventKind.UNSUBSCRIBED if unsubscribed else EventKind.RESUBSCRIBED
    return [_Reported(who, kind, part.timestamp, detail, all_mail=preferences.unsubscribe_all) for who in _sole_recipient(event)]


def _sole_recipient(event: _SesEvent) -> list[str]:
    """The mail's only recipient; empty if it had several. A message of ours has one."""
    return event.mail.destination if len(event.mail.destination) == 1 else []


_READERS: dict[str, Callable[[_SesEvent], Sequence[_Reported]]] = {
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
        raise Invalid("an SES event whose timestamp is no time") from error


def _is_text(address: str) -> bool:
    return 0 < len(address) <= 998 and address.isprintable()


def _clean(text: str, length: int) -> str:
    """Cut, without NUL and lone surrogates, so that every store can keep it."""
    return text[:length].replace("\0", " ").encode("utf-8", "replace").decode("utf-8", "replace")
