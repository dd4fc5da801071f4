"""What SES answers, and what it means: for the message, for the account, for the way there.

    200                                      accepted
    429, or "throttling" in any status       temporary, throttled: the account's rate, no recipient fails for it
    the account's quota is used up           temporary, throttled; the way is closed for a while
    paused, suspended, no right to send      temporary; the way is closed until a person has mended it
    credentials, configuration set           nothing was risked, the message stays in line; closed until a person has mended it
    the message or its identities            permanent
    any other 4xx                            temporary: what is not known to be permanent is not
    5xx                                      unknown: it may have been accepted before it went wrong

SES names the kind of an error in `X-Amzn-ErrorType` (`Kind:http://…`) or in the body's `__type` (`prefix#Kind`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

import orjson

from postroom.platform.mail.port import Result, Stage, Verdict

MAX_TEXT = 250
_THROTTLED = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "SlowDown"})
_QUOTA = frozenset({"LimitExceededException"})
_CLOSED = frozenset({"SendingPausedException", "AccountSuspendedException", "AccessDeniedException", "AccessDenied"})
"""The last two may be about one sender only: its message is put off, so that others have their turn."""
_STALE = frozenset({"ExpiredTokenException", "ExpiredToken", "RequestExpired"})
_REFUSED = frozenset(
    {
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotFoundException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_PERMANENT = frozenset(
    {"MessageRejected", "BadRequestException", "MailFromDomainNotVerifiedException", "ValidationException", "ValidationError"}
)
_DAILY = re.compile(r"daily (message|sending) quota|quota exceeded", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[^ -~\u00a0-\ud7ff\ue000-\U0010ffff]+")


class Means(StrEnum):
    """What an answer says about the way, besides its result."""

    WORKS = "works"
    TROUBLE = "trouble"
    """It may pass by itself: after a few the breaker opens."""
    CLOSED = "closed"
    """The account sends nothing now."""
    REFUSED = "refused"
    """We are not let in; the message was not looked at."""
    STALE = "stale"
    """As refused, because our credentials have run out: others may be there."""


class Answer(NamedTuple):
    """One answer, understood."""

    result: Result
    means: Means


def read_answer(status: int, kind: str, body: bytes) -> Answer:
    """`kind`: the header's, as it came; may be empty."""
    if status == 200:
        return _accepted(body)
    name, text = error_of(status, kind, body)
    said = f"{name}: {text}" if text else name
    if status >= 500:
        doubt = f"SES failed and may have accepted it all the same: {said}"
        return Answer(_result(Verdict.UNKNOWN, status, doubt), Means.TROUBLE)
    if name in _QUOTA or (name in _THROTTLED and _DAILY.search(text)):
        return Answer(_result(Verdict.TEMPORARY, status, said, throttled=True), Means.CLOSED)
    if name in _THROTTLED or status == 429:
        return Answer(_result(Verdict.TEMPORARY, status, said, throttled=True), Means.WORKS)
    if name in _CLOSED:
        return Answer(_result(Verdict.TEMPORARY, status, said), Means.CLOSED)
    if name in _STALE:
        return Answer(_result(Verdict.UNSENT, status, said), Means.STALE)
    if name in _REFUSED or status in (401, 403):
        return Answer(_result(Verdict.UNSENT, status, said), Means.REFUSED)
    permanent = name in _PERMANENT or status == 413
    return Answer(_result(Verdict.PERMANENT if permanent else Verdict.TEMPORARY, status, said), Means.WORKS)


def error_of(status: int, kind: str, body: bytes) -> tuple[str, str]:
    """The kind of error and its text, whoever wrote it: a proxy on the way writes neither."""
    document = _document(body)
    name = kind or str(document.get("__type") or document.get("code") or "")
    name = name.partition(":")[0].rpartition("#")[2].strip()
    text = document.get("message") or document.get("Message") or ""
    return printable(name, 60) or f"HTTP {status}", printable(str(text), MAX_TEXT)


def printable(text: str, length: int) -> str:
    """On one line, and not too long."""
    return _UNPRINTABLE.sub(" ", text).strip()[:length]


def _accepted(body: bytes) -> Answer:
    """An answer without an id is an acceptance all the same: the status says so."""
    name = _document(body).get("MessageId")
    given = printable(name, 100) if isinstance(name, str) else ""
    return Answer(_result(Verdict.ACCEPTED, 200, f"accepted as {given}" if given else "accepted", provider_id=given), Means.WORKS)


def _document(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _result(verdict: Verdict, status: int, text: str, *, throttled: bool = False, provider_id: str = "") -> Result:
    return Result(verdict, status, "", text[:MAX_TEXT], Stage.CONTENT, provider_id or None, throttled)
