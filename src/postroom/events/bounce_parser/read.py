"""One mail that came in: what is it?

Asked in this order, because each kind can look like a later one:

1. a delivery report part (RFC 3464), in the mail itself or in one that is forwarded;
2. a feedback report part (RFC 5965), or the form that Hotmail used;
3. an unsubscribe address of ours, whoever writes to it;
4. a receipt (RFC 8098): no bounce;
5. a bounce in prose, by words that nobody else uses;
6. a subject that asks for no more mail, and nothing else: Apple's mail program marks its own as an automatic answer;
7. an answer by a machine (RFC 3834), a challenge;
8. a bounce in prose, by sender and subject.

It never raises, whatever the mail; time and memory are bounded by `mime.MAX_READ`. What it says is believed only with a token
that opens: that is the caller's part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from postroom.clock import Instant
from postroom.events.bounce_parser import delivery_status, signs
from postroom.events.bounce_parser.classify import classify
from postroom.events.bounce_parser.dates import read_date
from postroom.events.bounce_parser.encodings import cleaned
from postroom.events.bounce_parser.explanation import explanation_of
from postroom.events.bounce_parser.head import Head, read_head
from postroom.events.bounce_parser.mime import MAX_READ, Part, read_mail
from postroom.events.bounce_parser.prose import read_prose
from postroom.events.bounce_parser.readings import (
    ArfReport,
    AutoReply,
    Challenge,
    DeliveryReport,
    Other,
    Reading,
    RecipientReport,
    UnsubscribeRequest,
)
from postroom.events.bounce_parser.traces import find_traces, return_path_in
from postroom.model.event import MAX_RAW, BounceClass
from postroom.model.wire import RECIPIENT_TOKEN_LENGTH

_FEEDBACK = "message/feedback-report"
_RECEIPT = "message/disposition-notification"
_TOKEN = rf"([A-Za-z0-9_-]{{{RECIPIENT_TOKEN_LENGTH}}}(?:\.[A-Za-z0-9_-]{{1,86}})?)"
_UNSUBSCRIBE_ADDRESS = re.compile(rf"<?(?:u|unsub|unsubscribe)[+=]{_TOKEN}@", re.IGNORECASE)
_UNSUBSCRIBE_SUBJECT = re.compile(rf"\s*(?:unsubscribe|remove)\s{{1,3}}<?{_TOKEN}>?\s*\Z", re.IGNORECASE)
_STATUS_LINE = re.compile(r"^[> ]{0,4}(?:final-recipient|action) {0,3}:", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r"^>{1,4} ?", re.MULTILINE)


class _Mail(NamedTuple):
    """A mail in parts, with what all questions need."""

    content: bytes
    head: Head
    parts: Sequence[Part]
    explanation: str
    identity: str

    def first(self, *kinds: str) -> Part | None:
        return next((part for part in self.parts if part.kind in kinds), None)


class _Common(TypedDict):
    """The fields of `readings.Mail`."""

    identity: str
    sent_at: Instant | None
    raw: str


def read_report(raw: bytes, *, recipient: str = "") -> Reading:
    """What the mail is. `recipient` is the envelope's: the address it was sent to."""
    content = raw[:MAX_READ]
    head, parts = read_mail(content)
    mail = _Mail(content, head, parts, _explanation(parts), _identity(head, content))
    return (
        _delivery_report(mail)
        or _feedback_report(mail)
        or _unsubscribe(mail, recipient)
        or _receipt(mail)
        or _strict_prose(mail)
        or _plain_wish(mail, recipient)
        or _automatic(mail)
        or _prose(mail)
        or Other(**_common(mail, mail.explanation), subject=_subject(mail))
    )


def _delivery_report(mail: _Mail) -> DeliveryReport | None:
    part = mail.first(*delivery_status.KINDS) or _mislabelled(mail)
    if not part:
        return None
    text = _QUOTED.sub("", part.text()) if part.kind == "text/plain" else part.text()
    recipients = delivery_status.read_recipients(text, mail.explanation)
    if not recipients:
        return None
    report = f"{text.strip()}\n\n{mail.explanation}"
    return DeliveryReport(
        **_common(mail, report), recipients=recipients, standard=True, traces=find_traces(mail.content, mail.parts)
    )


def _mislabelled(mail: _Mail) -> Part | None:
    """The report's fields in a part that calls itself text."""
    kinds = ("text/plain", "application/octet-stream", "message/delivery-report")
    for part in mail.parts:
        if part.kind in kinds and len(_STATUS_LINE.findall(part.text()[:4_000])) >= 2:
            return part
    return None


def _feedback_report(mail: _Mail) -> ArfReport | None:
    part = mail.first(_FEEDBACK)
    if not part:
        return _feedback_without_report(mail)
    text = part.text()
    fields = read_head(text.replace("\n\n", "\n").strip().encode("utf-8", "replace"))
    recipients = [
        delivery_status.address(value)
        for name in ("original-rcpt-to", "removal-recipient")
        for value in fields.fields.get(name, [])
    ]
    return ArfReport(
        **_common(mail, text),
        kind=fields.get("feedback-type").strip().lower()[:40] or "other",
        recipients=tuple(dict.fromkeys(address for address in recipients if address))[: delivery_status.MAX_RECIPIENTS],
        user_agent=fields.get("user-agent")[:250],
        traces=find_traces(mail.content, mail.parts),
    )


def _feedback_without_report(mail: _Mail) -> ArfReport | None:
    """Hotmail's programme (JMRP) sends the mail itself, with a subject that says what it is."""
    returned = mail.first("message/rfc822")
    if not returned or not signs.subject_of(mail.head).startswith("complaint about message from"):
        return None
    inner = read_head(returned.body.partition(b"\n\n")[0])
    recipient = inner.mailbox("x-hmxmroriginalrecipient") or inner.mailbox("to")
    traces = find_traces(mail.content, mail.parts)
    return ArfReport(**_common(mail, _subject(mail)), kind="abuse", recipients=(recipient,) if recipient else (), traces=traces)


def _unsubscribe(mail: _Mail, recipient: str) -> UnsubscribeRequest | None:
    found = _UNSUBSCRIBE_ADDRESS.match(recipient[:320]) or _UNSUBSCRIBE_SUBJECT.match(mail.head.text("subject")[:400])
    return UnsubscribeRequest(**_common(mail, _subject(mail)), token=found[1]) if found else None


def _receipt(mail: _Mail) -> AutoReply | None:
    return AutoReply(**_common(mail, mail.explanation), subject=_subject(mail)) if mail.first(_RECEIPT) else None


def _strict_prose(mail: _Mail) -> DeliveryReport | None:
    strict = "x-failed-recipients" in mail.head or (
        signs.opens_like_a_bounce(mail.explanation) and not signs.says_absent(mail.head)
    )
    return _prose_report(mail) if strict else None


def _automatic(mail: _Mail) -> AutoReply | Challenge | None:
    if signs.is_challenge(mail.head, mail.explanation):
        return Challenge(**_common(mail, mail.explanation), subject=_subject(mail))
    if not signs.is_auto_reply(mail.head):
        return None
    bounces = signs.is_from_mail_system(mail.head) and signs.has_bounce_subject(mail.head) and not signs.says_absent(mail.head)
    return None if bounces else AutoReply(**_common(mail, mail.explanation), subject=_subject(mail))


def _prose(mail: _Mail) -> DeliveryReport | None:
    """A subject alone is not enough, and neither is a sender: unless the text speaks like a server."""
    system, subject = signs.is_from_mail_system(mail.head), signs.has_bounce_subject(mail.head)
    if not system and not subject:
        return None
    if not (system and subject):
        bounce = classify("", mail.explanation)
        if bounce.category is BounceClass.OTHER or not (bounce.code or system):
            return None
    return _prose_report(mail)


def _prose_report(mail: _Mail) -> DeliveryReport:
    recipients: tuple[RecipientReport, ...] = read_prose(mail.head, mail.explanation)
    return DeliveryReport(
        **_common(mail, mail.explanation), recipients=recipients, standard=False, traces=find_traces(mail.content, mail.parts)
    )


def _plain_wish(mail: _Mail, recipient: str) -> UnsubscribeRequest | None:
    """`unsubscribe` as a whole subject, sent to a return path of ours: that address says who it is."""
    wished = return_path_in(recipient) and signs.wants_no_more(mail.head)
    return UnsubscribeRequest(**_common(mail, _subject(mail))) if wished else None


def _explanation(parts: Sequence[Part]) -> str:
    """The first text that is the mail's own, else that of the mail inside it; plain before HTML."""
    for enclosed in (False, True):
        for kind in ("text/plain", "text/html"):
            texts = (explanation_of(part.text()) for part in parts if part.kind == kind and part.enclosed == enclosed)
            found = next((text for text in texts if text), "")
            if found:
                return found
    return ""


def _subject(mail: _Mail) -> str:
    return cleaned(mail.head.text("subject"))[:250]


def _identity(head: Head, content: bytes) -> str:
    """By its Message-ID and sender; without one, by all of it but the trace lines that each delivery adds."""
    message_id = head.get("message-id")
    identity = f"{message_id} {head.get('from')} {head.get('date')}".encode("utf-8", "replace")
    if not message_id:
        identity += content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    return hashlib.blake2b(identity, digest_size=16).hexdigest()


def _common(mail: _Mail, raw: str) -> _Common:
    return {"identity": mail.identity, "sent_at": read_date(mail.head.get("date")), "raw": cleaned(raw)[:MAX_RAW]}
