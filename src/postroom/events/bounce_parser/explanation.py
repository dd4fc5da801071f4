"""A bounce's text for people: what of it counts, and which lines of it are about whom."""

from __future__ import annotations

import re
from collections.abc import Container

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
"""Words that begin what is returned only after a row of dashes."""
_LABEL = re.compile(
    r"(?:to|an|a|à|para|für|recipients?|recipient address|address|user|mailbox|failed recipient|empfänger|destinataire|"
    r"destinatario|error|收件人|发送给)\s{0,3}[:：]\s{0,5}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:'|]{1,128}@[^\s<>()\[\]\",;:'|]{1,255}")
_NOBODY = frozenset({"postmaster", "mailer-daemon", "abuse", "support", "helpdesk", "noreply", "no-reply", "admin", "webmaster"})


def explanation_of(text: str) -> str:
    """Up to the mail that is returned."""
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


def sections(explanation: str, *, strangers: Container[str] = ()) -> dict[str, str]:
    """Addresses at the beginning of lines, each with the text up to the next one. `strangers` are no recipients."""
    named: dict[str, list[str]] = {}
    current: list[str] = []
    for line in explanation.split("\n"):
        address = _leading_address(line)
        if address and _may_be_recipient(address, strangers):
            current = named.setdefault(address, [])
        current.append(line)
    return {address: "\n".join(lines) for address, lines in named.items()}


def first_address(explanation: str, *, strangers: Container[str] = ()) -> str:
    """The first address anywhere in it that may be a recipient's; empty where there is none."""
    for word in explanation.split():
        found = _ADDRESS.search(word[:400]) if "@" in word else None
        address = found[0].strip(".").lower() if found else ""
        if address and _may_be_recipient(address, strangers):
            return address
    return ""


def _may_be_recipient(address: str, strangers: Container[str]) -> bool:
    return address not in strangers and address.partition("@")[0] not in _NOBODY


def _leading_address(line: str) -> str:
    if "@" not in line:
        return ""
    bare = line.strip(" \t>*•-<\"'|\xa0")
    label = _LABEL.match(bare)
    found = _ADDRESS.match(bare[label.end() :].lstrip(" <\"'\\") if label else bare)
    return found[0].strip(".").lower() if found else ""
