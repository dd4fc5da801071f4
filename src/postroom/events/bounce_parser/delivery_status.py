"""The fields of a delivery report (RFC 3464 and RFC 6533), of any dialect: recipients out of `message/delivery-status`."""

from __future__ import annotations

import re

from postroom.events.bounce_parser.classify import classify, classify_text
from postroom.events.bounce_parser.explanation import sections
from postroom.events.bounce_parser.head import Head, read_head
from postroom.events.bounce_parser.readings import Action, RecipientReport
from postroom.model.event import Bounce, BounceClass

KINDS = ("message/delivery-status", "message/global-delivery-status")
MAX_RECIPIENTS = 50

_STATUS = re.compile(r"[245]\.[0-7]\.[0-9]{1,3}")
_OF_RECIPIENT = frozenset({"final-recipient", "original-recipient"})
_ACTIONS = {
    "failed": Action.FAILED,
    "failure": Action.FAILED,
    "delayed": Action.DELAYED,
    "deferred": Action.DELAYED,
    "delivered": Action.DELIVERED,
    "deliverable": Action.DELIVERED,
    "relayed": Action.RELAYED,
    "expanded": Action.EXPANDED,
}
_BY_STATUS = {"2": Action.DELIVERED, "4": Action.DELAYED}


def read_recipients(body: str, explanation: str) -> tuple[RecipientReport, ...]:
    """Each recipient the report is about. `explanation`, its text for people, is asked where the fields say nothing: the
    lines about this recipient, or all of it if there is no other."""
    groups = [group for group in _groups(body) if _is_recipient(group)][:MAX_RECIPIENTS]
    if len(groups) == 1:
        return (_recipient(groups[0], explanation),)
    about = sections(explanation)
    return tuple(_recipient(group, about.get(address(group.get("final-recipient")).lower(), "")) for group in groups)


def _is_recipient(group: Head) -> bool:
    return any(name in group for name in ("final-recipient", "original-recipient", "action", "status"))


def _groups(body: str) -> list[Head]:
    """Blocks of fields. Some reporters put no empty line between them: then a second Final-Recipient begins the next."""
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
    return _joined([read_head("\n".join(block).encode("utf-8", "replace")) for block in blocks if block][: 4 * MAX_RECIPIENTS])


def _joined(groups: list[Head]) -> list[Head]:
    """Other reporters put an empty line inside of one: then what follows has no recipient of its own."""
    joined: list[Head] = []
    for group in groups:
        follows = joined and not any(name in group for name in _OF_RECIPIENT)
        if follows and any(name in joined[-1] for name in _OF_RECIPIENT) and not group.fields.keys() & joined[-1].fields.keys():
            joined[-1] = Head(joined[-1].fields | group.fields)
        else:
            joined.append(group)
    return joined


def _recipient(group: Head, explanation: str) -> RecipientReport:
    found = _STATUS.search(group.get("status"))
    status = found[0] if found else ""
    diagnostic = _untyped(group.text("diagnostic-code"))
    action = _action(group.get("action"), status)
    return RecipientReport(
        action=action,
        bounce=_meaning(status, diagnostic, action, explanation),
        address=address(group.get("final-recipient")),
        original=address(group.get("original-recipient")),
        status=status,
        diagnostic=diagnostic,
        remote_mta=_untyped(group.get("remote-mta")),
    )


def _meaning(status: str, diagnostic: str, action: str, explanation: str) -> Bounce:
    """From the fields, and where they say only that something failed, from the text."""
    by_fields = classify(status, diagnostic, action)
    if by_fields.category is not BounceClass.OTHER or not explanation:
        return by_fields
    by_text = classify_text(explanation, action, status=status)
    return by_text if by_text.category is not BounceClass.OTHER else by_fields


def _action(text: str, status: str) -> Action:
    word = text.strip().lower().split(" ", 1)[0].rstrip(";,.")
    return _ACTIONS.get(word) or _BY_STATUS.get(status[:1], Action.FAILED)


def address(value: str) -> str:
    """Without its type (`rfc822; …`) and brackets."""
    bare = _untyped(value).strip().strip("<>").strip()
    return bare[:320] if "@" in bare else ""


def _untyped(value: str) -> str:
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and len(kind) <= 20 and " " not in kind.strip() else value.strip()
