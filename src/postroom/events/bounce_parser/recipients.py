"""Finds the recipients of a bounce and why each failed: in a delivery status part, or in prose.

A standard report has a `message/delivery-status` part (RFC 3464, RFC 6533) with a block of fields per recipient. Bounces without
one (qmail, Exim, old Exchange and Notes, Yahoo, GroupWise, Chinese and Japanese providers …) have a text for people in common:
the address at the beginning of a line, the reason near it, and often the returned mail below. So no product is named here: the
returned mail is cut off, the addresses are found, and each reason is classified like a reply.
"""

from __future__ import annotations

import re
from collections.abc import Container

from postroom.events.bounce_parser.classify import classify, classify_text
from postroom.events.bounce_parser.mime import HeaderFields, parse_header
from postroom.events.bounce_parser.reports import DsnAction, RecipientReport
from postroom.model.event import Bounce, BounceClass

MAX_EXPLANATION = 6_000
MAX_LINES = 300
_RETURNED_STARTS = (
    "below this line",
    "this is a copy of",
    "original m",
    "begin original message",
    "returned message",
    "returned mail",
    "message header",
    "message text follows",
    "the header of the original",
    "headers of the original",
    "header of the original",
    "unsent message",
    "undelivered message",
    "mensaje original",
    "message d'origine",
    "ursprüngliche nachricht",
    "return-path:",
    "received: ",
    "x-received:",
    "message-id:",
    "dkim-signature:",
    "mime-version:",
    "content-type:",
    "原邮件",
    "原始邮件",
)
_RETURNED_AFTER_RULE = ("header", "original", "returned", "message", "unsent")
"""These begin the returned mail only after a row of dashes."""
_LABEL = re.compile(
    r"(?:to|an|a|à|para|für|recipients?|recipient address|address|user|mailbox|failed recipient|empfänger|destinataire|"
    r"destinatario|error|收件人|发送给)\s{0,3}[:：]\s{0,5}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:'|]{1,128}@[^\s<>()\[\]\",;:'|]{1,255}")
_NOT_RECIPIENTS = frozenset(
    {"postmaster", "mailer-daemon", "abuse", "support", "helpdesk", "noreply", "no-reply", "admin", "webmaster"}
)


def explanation_of(text: str) -> str:
    """The text for people, without the returned mail below it."""
    kept: list[str] = []
    seen = False
    for line in text.split("\n", MAX_LINES)[:MAX_LINES]:
        bare = line.strip(" \t>*").lower()
        start = bare.lstrip("-=_#| ")
        ruled = bare.startswith("--") and start.startswith(_RETURNED_AFTER_RULE)
        if seen and (ruled or start.startswith(_RETURNED_STARTS)):
            break
        kept.append(line[:1_000])
        seen = seen or bool(bare)
    return "\n".join(kept)[:MAX_EXPLANATION].strip()


def sections(explanation: str, *, exclude: Container[str] = ()) -> dict[str, str]:
    """Addresses at the beginning of lines, each with the text up to the next one. `exclude`: addresses that are no recipients."""
    named: dict[str, list[str]] = {}
    current: list[str] = []
    for line in explanation.split("\n"):
        address = _leading_address(line)
        if address and _may_be_recipient(address, exclude):
            current = named.setdefault(address, [])
        current.append(line)
    return {address: "\n".join(lines) for address, lines in named.items()}


def first_address(explanation: str, *, exclude: Container[str] = ()) -> str:
    """The first address anywhere in the text that may be a recipient's; empty if there is none."""
    for word in explanation.split():
        found = _ADDRESS.search(word[:400]) if "@" in word else None
        address = found[0].strip(".").lower() if found else ""
        if address and _may_be_recipient(address, exclude):
            return address
    return ""


def _may_be_recipient(address: str, exclude: Container[str]) -> bool:
    return address not in exclude and address.partition("@")[0] not in _NOT_RECIPIENTS


def _leading_address(line: str) -> str:
    if "@" not in line:
        return ""
    bare = line.strip(" \t>*•-<\"'|\xa0")
    label = _LABEL.match(bare)
    found = _ADDRESS.match(bare[label.end() :].lstrip(" <\"'\\") if label else bare)
    return found[0].strip(".").lower() if found else ""


DELIVERY_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
MAX_RECIPIENTS = 50
_STATUS = re.compile(r"[245]\.[0-7]\.[0-9]{1,3}")
_OF_RECIPIENT = frozenset({"final-recipient", "original-recipient"})
_ACTIONS = {
    "failed": DsnAction.FAILED,
    "failure": DsnAction.FAILED,
    "delayed": DsnAction.DELAYED,
    "deferred": DsnAction.DELAYED,
    "delivered": DsnAction.DELIVERED,
    "deliverable": DsnAction.DELIVERED,
    "relayed": DsnAction.RELAYED,
    "expanded": DsnAction.EXPANDED,
}
_BY_STATUS = {"2": DsnAction.DELIVERED, "4": DsnAction.DELAYED}


def recipients_from_delivery_status(body: str, explanation: str) -> tuple[RecipientReport, ...]:
    """The recipients of a `message/delivery-status` part.

    `explanation`: the report's text for people, used where the fields say nothing: the lines about the recipient, or all of it if
    there is only one.
    """
    groups = [group for group in _groups(body) if _is_recipient(group)][:MAX_RECIPIENTS]
    if len(groups) == 1:
        return (_recipient_from_fields(groups[0], explanation),)
    about = sections(explanation)
    return tuple(
        _recipient_from_fields(group, about.get(untyped_address(group.get("final-recipient")).lower(), "")) for group in groups
    )


def _is_recipient(group: HeaderFields) -> bool:
    return any(name in group for name in ("final-recipient", "original-recipient", "action", "status"))


def _groups(body: str) -> list[HeaderFields]:
    """Blocks of fields. Some reporters put no empty line between them, so a second Final-Recipient begins the next block."""
    blocks: list[list[str]] = [[]]
    seen: set[str] = set()
    for line in body.split("\n"):
        name = line.partition(":")[0].strip().lower()
        if not line.strip() or (name in _OF_RECIPIENT and name in seen):
            blocks.append([])
            seen = set()
        if line.strip():
            blocks[-1].append(line)
            seen.add(name)
    return _joined([parse_header("\n".join(block).encode("utf-8", "replace")) for block in blocks if block][: 4 * MAX_RECIPIENTS])


def _joined(groups: list[HeaderFields]) -> list[HeaderFields]:
    """Joins blocks without a recipient to the one before: some reporters put an empty line inside of a block."""
    joined: list[HeaderFields] = []
    for group in groups:
        follows = joined and not any(name in group for name in _OF_RECIPIENT)
        if follows and any(name in joined[-1] for name in _OF_RECIPIENT) and not group.fields.keys() & joined[-1].fields.keys():
            joined[-1] = HeaderFields(joined[-1].fields | group.fields)
        else:
            joined.append(group)
    return joined


def _recipient_from_fields(group: HeaderFields, explanation: str) -> RecipientReport:
    found = _STATUS.search(group.get("status"))
    status = found[0] if found else ""
    diagnostic = _untyped(group.text("diagnostic-code"))
    action = _action_from_fields(group.get("action"), status)
    return RecipientReport(
        action=action,
        bounce=_meaning(status, diagnostic, action, explanation),
        address=untyped_address(group.get("final-recipient")),
        original=untyped_address(group.get("original-recipient")),
        status=status,
        diagnostic=diagnostic,
        remote_mta=_untyped(group.get("remote-mta")),
    )


def _meaning(status: str, diagnostic: str, action: str, explanation: str) -> Bounce:
    """From the fields; if they say only that something failed, from the text."""
    by_fields = classify(status, diagnostic, action)
    if by_fields.category is not BounceClass.OTHER or not explanation:
        return by_fields
    by_text = classify_text(explanation, action, status=status)
    return by_text if by_text.category is not BounceClass.OTHER else by_fields


def _action_from_fields(text: str, status: str) -> DsnAction:
    word = text.strip().lower().split(" ", 1)[0].rstrip(";,.")
    return _ACTIONS.get(word) or _BY_STATUS.get(status[:1], DsnAction.FAILED)


def untyped_address(value: str) -> str:
    """An address field's value without its type (`rfc822; …`) and brackets; empty if it is no address."""
    bare = _untyped(value).strip().strip("<>").strip()
    return bare[:320] if "@" in bare else ""


def _untyped(value: str) -> str:
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and len(kind) <= 20 and " " not in kind.strip() else value.strip()


_DELAYED = (
    "still being retried",
    "will keep trying",
    "will continue to try",
    "will be retried",
    "will try again",
    "will continue trying",
    "keep trying to deliver",
    "being retried",
    "delivery attempts will continue",
    "not yet been delivered",
    "has not been delivered yet",
    "could not be delivered yet",
    "is delayed",
    "has been delayed",
    "been delayed",
    "delivery to the following recipients has been delayed",
    "warning message only",
    "do not need to resend",
    "you do not need to resend",
    "not need to resend",
    "no action is required on your part",
    "wird weiterhin versucht",
    "noch nicht zugestellt",
    "verzögert",
    "sera retenté",
)
_DELAYED_SUBJECT = ("delay", "deferred", "verzöger", "retard", "延迟", "遅延")
_GIVEN_UP = ("failed permanently", "permanent error", "permanent fatal", "given up", "giving up", "could not be delivered for")
"""These outweigh a subject that sounds like a delay, but not `_DELAYED`: a warning says when the server will give up."""


def recipients_from_prose(head: HeaderFields, explanation: str) -> tuple[RecipientReport, ...]:
    """The recipients of a bounce in prose with their reasons; one without address if none is found."""
    action = _action_from_text(head, explanation)
    whole = _meaning_of_all(head, explanation, action)
    ours = {head.mailbox("to"), head.mailbox("from"), head.mailbox("reply-to")}
    named = list(sections(explanation, exclude=ours).items())[:MAX_RECIPIENTS]
    if not named:
        named = [(head.mailbox("x-failed-recipients") or first_address(explanation, exclude=ours), explanation)]
    return tuple(_recipient_from_text(address, reason, action, whole) for address, reason in named)


def _recipient_from_text(address: str, reason: str, action: DsnAction, whole: Bounce) -> RecipientReport:
    near = classify_text(reason, action)
    bounce = whole if near.category is BounceClass.OTHER else near
    return RecipientReport(action=action, bounce=bounce, address=address, diagnostic=" ".join(reason.split())[:1_000])


def _meaning_of_all(head: HeaderFields, explanation: str, action: DsnAction) -> Bounce:
    """Of the whole text; if that says nothing, of the subject."""
    by_text = classify_text(explanation, action)
    return by_text if by_text.category is not BounceClass.OTHER else classify_text(head.text("subject"), action)


def _action_from_text(head: HeaderFields, explanation: str) -> DsnAction:
    words, subject = " ".join(explanation.lower().split()), head.text("subject").lower()
    if any(phrase in words for phrase in _DELAYED):
        return DsnAction.DELAYED
    sounds_delayed = any(word in subject for word in _DELAYED_SUBJECT)
    return DsnAction.DELAYED if sounds_delayed and not any(phrase in words for phrase in _GIVEN_UP) else DsnAction.FAILED
