"""Tells what kind of report an inbound mail is. It only reads: whether a report is believed is decided in `events.inbound_mail`.

Asked in this order, because each kind can look like a later one:

1. a delivery report part (RFC 3464), in the mail itself or in one that was forwarded;
2. a feedback report part (RFC 5965), or the form that Hotmail used;
3. an unsubscribe address of ours, whatever the mail says;
4. a receipt (RFC 8098), which is no bounce;
5. a bounce in prose, by phrases that nothing else uses;
6. a subject that only asks to unsubscribe: Apple's mail program marks its own as automatic replies;
7. an automatic reply (RFC 3834) or a challenge;
8. a bounce in prose, by sender and subject.

Time and memory are bounded by `mime.MAX_PARSED_BYTES`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

from postroom.clock import Instant
from postroom.events.bounce_parser import heuristics
from postroom.events.bounce_parser.classify import classify
from postroom.events.bounce_parser.mime import (
    MAX_PARSED_BYTES,
    HeaderFields,
    MimePart,
    parse_date,
    parse_header,
    parse_mime,
    strip_control_characters,
)
from postroom.events.bounce_parser.recipients import (
    DELIVERY_STATUS_TYPES,
    MAX_RECIPIENTS,
    explanation_of,
    recipients_from_delivery_status,
    recipients_from_prose,
    untyped_address,
)
from postroom.events.bounce_parser.reports import (
    ArfReport,
    AutoReply,
    Challenge,
    DeliveryReport,
    Other,
    ParsedReport,
    QuotedTokens,
    RecipientReport,
    UnsubscribeRequest,
)
from postroom.model.event import MAX_RAW, BounceClass
from postroom.model.tokens import RECIPIENT_TOKEN_LENGTH, RETURN_PATH_LENGTH

_MAX_FOUND = 10
_MAX_CANDIDATES = 300
_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "message/rfc822-headers")
_RETURN_PATH = re.compile(rb"b[2-7a-z]{%d}" % (RETURN_PATH_LENGTH - 1), re.IGNORECASE)
_RECIPIENT_TOKEN = re.compile(rb"[A-Za-z0-9_-]{%d}" % RECIPIENT_TOKEN_LENGTH)
_UNSUBSCRIBE = re.compile(rb"[A-Za-z0-9_-]{%d}(?:\.[A-Za-z0-9_-]{1,86})?" % RECIPIENT_TOKEN_LENGTH)


def find_quoted_tokens(raw: bytes, parts: Iterable[MimePart]) -> QuotedTokens:
    """Our tokens in the mail that a report returns, found by the characters around them."""
    content = raw[:MAX_PARSED_BYTES].replace(b"=\r\n", b"").replace(b"=\n", b"")
    returned = next(
        (parse_header(part.body[:16_384].lstrip(b"\n").partition(b"\n\n")[0]) for part in parts if part.kind in _RETURNED), None
    )
    return QuotedTokens(
        return_paths=_return_paths(content),
        recipient_tokens=_after(content, (b"/t/o/", b"/t/c/"), _RECIPIENT_TOKEN),
        unsubscribe_tokens=_after(content, (b"/u/",), _UNSUBSCRIBE),
        message_id=returned.get("message-id")[:250] if returned else "",
        feedback_id=returned.get("feedback-id")[:250] if returned else "",
    )


def return_path_in(address: str) -> str:
    """The local part if the address looks like a return path of ours, else empty."""
    local_part = address.partition("@")[0].strip().strip("<").lower()
    return local_part if _RETURN_PATH.fullmatch(local_part.encode("utf-8", "replace")) else ""


def _return_paths(content: bytes) -> tuple[str, ...]:
    found: dict[str, None] = {}
    at = content.find(b"@", RETURN_PATH_LENGTH)
    for _ in range(_MAX_CANDIDATES):
        if at < 0 or len(found) >= _MAX_FOUND:
            break
        candidate = content[at - RETURN_PATH_LENGTH : at]
        if _RETURN_PATH.fullmatch(candidate):
            found[candidate.decode().lower()] = None
        at = content.find(b"@", at + 1)
    return tuple(found)


def _after(content: bytes, marks: tuple[bytes, ...], shape: re.Pattern[bytes]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for mark in marks:
        at = content.find(mark)
        for _ in range(_MAX_CANDIDATES):
            if at < 0 or len(found) >= _MAX_FOUND:
                break
            token = shape.match(content, at + len(mark))
            if token:
                found[token[0].decode()] = None
            at = content.find(mark, at + len(mark))
    return tuple(found)


_FEEDBACK = "message/feedback-report"
_RECEIPT = "message/disposition-notification"
_TOKEN = rf"([A-Za-z0-9_-]{{{RECIPIENT_TOKEN_LENGTH}}}(?:\.[A-Za-z0-9_-]{{1,86}})?)"
_UNSUBSCRIBE_ADDRESS = re.compile(rf"<?(?:u|unsub|unsubscribe)[+=]{_TOKEN}@", re.IGNORECASE)
_UNSUBSCRIBE_SUBJECT = re.compile(rf"\s*(?:unsubscribe|remove)\s{{1,3}}<?{_TOKEN}>?\s*\Z", re.IGNORECASE)
_STATUS_LINE = re.compile(r"^[> ]{0,4}(?:final-recipient|action) {0,3}:", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r"^>{1,4} ?", re.MULTILINE)


class _Mail(NamedTuple):
    """A parsed mail."""

    content: bytes
    head: HeaderFields
    parts: Sequence[MimePart]
    explanation: str
    identity: str

    def first(self, *kinds: str) -> MimePart | None:
        return next((part for part in self.parts if part.kind in kinds), None)


class _Common(TypedDict):
    """The fields of `ReportMail`."""

    identity: str
    sent_at: Instant | None
    raw: str


def parse_report(raw: bytes, *, recipient: str = "") -> ParsedReport:
    """Tells what kind of mail it is. Never raises.

    `recipient`: the envelope recipient, empty if unknown.
    """
    content = raw[:MAX_PARSED_BYTES]
    head, parts = parse_mime(content)
    mail = _Mail(content, head, parts, _explanation(parts), _identity(head, content))
    return (
        _delivery_report(mail)
        or _feedback_report(mail)
        or _unsubscribe(mail, recipient)
        or _receipt(mail)
        or _strict_prose(mail)
        or _unsubscribe_subject(mail, recipient)
        or _automatic(mail)
        or _prose(mail)
        or Other(**_common(mail, mail.explanation), subject=_subject(mail))
    )


def _delivery_report(mail: _Mail) -> DeliveryReport | None:
    part = mail.first(*DELIVERY_STATUS_TYPES) or _mislabelled(mail)
    if not part:
        return None
    text = _QUOTED.sub("", part.text()) if part.kind == "text/plain" else part.text()
    recipients = recipients_from_delivery_status(text, mail.explanation)
    if not recipients:
        return None
    report = f"{text.strip()}\n\n{mail.explanation}"
    return DeliveryReport(
        **_common(mail, report), recipients=recipients, standard=True, quoted=find_quoted_tokens(mail.content, mail.parts)
    )


def _mislabelled(mail: _Mail) -> MimePart | None:
    """A part with the report's fields under another media type."""
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
    fields = parse_header(text.replace("\n\n", "\n").strip().encode("utf-8", "replace"))
    recipients = [
        untyped_address(value) for name in ("original-rcpt-to", "removal-recipient") for value in fields.fields.get(name, [])
    ]
    return ArfReport(
        **_common(mail, text),
        feedback_type=fields.get("feedback-type").strip().lower()[:40] or "other",
        recipients=tuple(dict.fromkeys(address for address in recipients if address))[:MAX_RECIPIENTS],
        user_agent=fields.get("user-agent")[:250],
        quoted=find_quoted_tokens(mail.content, mail.parts),
    )


def _feedback_without_report(mail: _Mail) -> ArfReport | None:
    """Hotmail's feedback loop (JMRP) sends the mail itself, with a subject that names it a complaint."""
    returned = mail.first("message/rfc822")
    if not returned or not heuristics.normalised_subject(mail.head).startswith("complaint about message from"):
        return None
    inner = parse_header(returned.body.partition(b"\n\n")[0])
    recipient = inner.mailbox("x-hmxmroriginalrecipient") or inner.mailbox("to")
    quoted = find_quoted_tokens(mail.content, mail.parts)
    return ArfReport(
        **_common(mail, _subject(mail)), feedback_type="abuse", recipients=(recipient,) if recipient else (), quoted=quoted
    )


def _unsubscribe(mail: _Mail, recipient: str) -> UnsubscribeRequest | None:
    found = _UNSUBSCRIBE_ADDRESS.match(recipient[:320]) or _UNSUBSCRIBE_SUBJECT.match(mail.head.text("subject")[:400])
    return UnsubscribeRequest(**_common(mail, _subject(mail)), token=found[1]) if found else None


def _receipt(mail: _Mail) -> AutoReply | None:
    return AutoReply(**_common(mail, mail.explanation), subject=_subject(mail)) if mail.first(_RECEIPT) else None


def _strict_prose(mail: _Mail) -> DeliveryReport | None:
    strict = "x-failed-recipients" in mail.head or (
        heuristics.opens_like_a_bounce(mail.explanation) and not heuristics.has_absence_subject(mail.head)
    )
    return _prose_report(mail) if strict else None


def _automatic(mail: _Mail) -> AutoReply | Challenge | None:
    if heuristics.is_challenge(mail.head, mail.explanation):
        return Challenge(**_common(mail, mail.explanation), subject=_subject(mail))
    if not heuristics.is_auto_reply(mail.head):
        return None
    bounces = (
        heuristics.is_from_mail_system(mail.head)
        and heuristics.has_bounce_subject(mail.head)
        and not heuristics.has_absence_subject(mail.head)
    )
    return None if bounces else AutoReply(**_common(mail, mail.explanation), subject=_subject(mail))


def _prose(mail: _Mail) -> DeliveryReport | None:
    """Needs both a bounce's subject and a mail system as sender, or one of them and a text that can be classified."""
    system, subject = heuristics.is_from_mail_system(mail.head), heuristics.has_bounce_subject(mail.head)
    if not system and not subject:
        return None
    if not (system and subject):
        bounce = classify("", mail.explanation)
        if bounce.category is BounceClass.OTHER or not (bounce.code or system):
            return None
    return _prose_report(mail)


def _prose_report(mail: _Mail) -> DeliveryReport:
    recipients: tuple[RecipientReport, ...] = recipients_from_prose(mail.head, mail.explanation)
    return DeliveryReport(
        **_common(mail, mail.explanation),
        recipients=recipients,
        standard=False,
        quoted=find_quoted_tokens(mail.content, mail.parts),
    )


def _unsubscribe_subject(mail: _Mail, recipient: str) -> UnsubscribeRequest | None:
    """A mail to a return path of ours, which names the recipient, whose whole subject is `unsubscribe` or the like."""
    matches = return_path_in(recipient) and heuristics.is_unsubscribe_subject(mail.head)
    return UnsubscribeRequest(**_common(mail, _subject(mail))) if matches else None


def _explanation(parts: Sequence[MimePart]) -> str:
    """The first text of the mail itself, else of the mail inside it; plain text before HTML."""
    for enclosed in (False, True):
        for kind in ("text/plain", "text/html"):
            texts = (explanation_of(part.text()) for part in parts if part.kind == kind and part.enclosed == enclosed)
            found = next((text for text in texts if text), "")
            if found:
                return found
    return ""


def _subject(mail: _Mail) -> str:
    return strip_control_characters(mail.head.text("subject"))[:250]


def _identity(head: HeaderFields, content: bytes) -> str:
    """A digest of Message-ID, From and Date; without a Message-ID also of the body, but not of trace fields."""
    message_id = head.get("message-id")
    identity = f"{message_id} {head.get('from')} {head.get('date')}".encode("utf-8", "replace")
    if not message_id:
        identity += content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    return hashlib.blake2b(identity, digest_size=16).hexdigest()


def _common(mail: _Mail, raw: str) -> _Common:
    return {
        "identity": mail.identity,
        "sent_at": parse_date(mail.head.get("date")),
        "raw": strip_control_characters(raw)[:MAX_RAW],
    }
