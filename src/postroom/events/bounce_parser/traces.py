"""What of ours a report quotes: tokens in the mail that it returns, found by the characters around them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from postroom.events.bounce_parser.head import read_head
from postroom.events.bounce_parser.mime import MAX_READ, Part
from postroom.events.bounce_parser.readings import Traces
from postroom.model.wire import RECIPIENT_TOKEN_LENGTH, RETURN_PATH_LENGTH

MAX_FOUND = 10
MAX_LOOKED_AT = 300

_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "message/rfc822-headers")
_RETURN_PATH = re.compile(rb"b[2-7a-z]{%d}" % (RETURN_PATH_LENGTH - 1), re.IGNORECASE)
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{%d}" % RECIPIENT_TOKEN_LENGTH)
_UNSUBSCRIBE = re.compile(rb"[A-Za-z0-9_-]{%d}(?:\.[A-Za-z0-9_-]{1,86})?" % RECIPIENT_TOKEN_LENGTH)


def find_traces(raw: bytes, parts: Iterable[Part]) -> Traces:
    """Of the first `MAX_READ` bytes, as quoted-printable wraps them."""
    content = raw[:MAX_READ].replace(b"=\r\n", b"").replace(b"=\n", b"")
    returned = next(
        (read_head(part.body[:16_384].lstrip(b"\n").partition(b"\n\n")[0]) for part in parts if part.kind in _RETURNED), None
    )
    return Traces(
        return_paths=_return_paths(content),
        hits=_after(content, (b"/t/o/", b"/t/c/"), _TOKEN),
        unsubscribes=_after(content, (b"/u/",), _UNSUBSCRIBE),
        message_id=returned.get("message-id")[:250] if returned else "",
        feedback_id=returned.get("feedback-id")[:250] if returned else "",
    )


def return_path_in(address: str) -> str:
    """The local part, if the address looks like one of our return paths."""
    local_part = address.partition("@")[0].strip().strip("<").lower()
    return local_part if _RETURN_PATH.fullmatch(local_part.encode("utf-8", "replace")) else ""


def _return_paths(content: bytes) -> tuple[str, ...]:
    found: dict[str, None] = {}
    at = content.find(b"@", RETURN_PATH_LENGTH)
    for _ in range(MAX_LOOKED_AT):
        if at < 0 or len(found) >= MAX_FOUND:
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
        for _ in range(MAX_LOOKED_AT):
            if at < 0 or len(found) >= MAX_FOUND:
                break
            token = shape.match(content, at + len(mark))
            if token:
                found[token[0].decode()] = None
            at = content.find(mark, at + len(mark))
    return tuple(found)
