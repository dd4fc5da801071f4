"""The SES API v2 as far as a mailer needs it: SendEmail requests, what responses mean, and what the account allows.

What a response to SendEmail means for the message, and for the account:

    200                                      accepted
    429, or "throttling" in any status       temporary, throttled: the account's rate, no recipient fails because of it
    the account's quota is used up           temporary, throttled; sending pauses for a while
    paused, suspended, no right to send      temporary; sending pauses until a person has fixed it
    credentials, configuration set           nothing was risked, the message stays in the queue; paused as well
    the message or its identities            permanent
    any other 4xx                            temporary: only what is known to be permanent is
    5xx                                      unknown: it may have been accepted before it failed

The kind of an error is in `X-Amzn-ErrorType` (`Kind:http://…`) or in the body's `__type` (`prefix#Kind`).
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html
"""

from __future__ import annotations

import http.client
import re
import ssl
from binascii import b2a_base64
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote

import orjson

from postroom.clock import Clock
from postroom.errors import Denied, NotFound, Unavailable
from postroom.model.tokens import MessageRef, ses_tags
from postroom.platform.mail._aws_auth import AwsCredentials, Signer
from postroom.platform.mail.port import OutboundMessage, Result, Stage, Verdict
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.ports.rates import RateLimit

MAX_TEXT = 250
_THROTTLED = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "SlowDown"})
_QUOTA = frozenset({"LimitExceededException"})
_PAUSED = frozenset({"SendingPausedException", "AccountSuspendedException", "AccessDeniedException", "AccessDenied"})
"""The last two may be about one sender only: its message is put off, so that others are sent."""
_EXPIRED = frozenset({"ExpiredTokenException", "ExpiredToken", "RequestExpired"})
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


class ProviderSignal(StrEnum):
    """What a response says about the account and the connection to it, besides the message's result."""

    WORKS = "works"
    TROUBLE = "trouble"
    """It may pass by itself: after a few the breaker opens."""
    PAUSED = "paused"
    """The account sends nothing now."""
    REFUSED = "refused"
    """The request was refused before the message was looked at."""
    EXPIRED = "expired"
    """As refused, because the credentials have expired: there may be others."""


class SesResponse(NamedTuple):
    """One parsed response."""

    result: Result
    signal: ProviderSignal


def parse_response(status: int, kind: str, body: bytes) -> SesResponse:
    """`kind`: the value of `X-Amzn-ErrorType`, or empty."""
    if status == 200:
        return _accepted(body)
    name, text = parse_error(status, kind, body)
    said = f"{name}: {text}" if text else name
    if status >= 500:
        doubt = f"SES failed and may have accepted it all the same: {said}"
        return SesResponse(_result(Verdict.UNKNOWN, status, doubt), ProviderSignal.TROUBLE)
    if name in _QUOTA or (name in _THROTTLED and _DAILY.search(text)):
        return SesResponse(_result(Verdict.TEMPORARY, status, said, throttled=True), ProviderSignal.PAUSED)
    if name in _THROTTLED or status == 429:
        return SesResponse(_result(Verdict.TEMPORARY, status, said, throttled=True), ProviderSignal.WORKS)
    if name in _PAUSED:
        return SesResponse(_result(Verdict.TEMPORARY, status, said), ProviderSignal.PAUSED)
    if name in _EXPIRED:
        return SesResponse(_result(Verdict.UNSENT, status, said), ProviderSignal.EXPIRED)
    if name in _REFUSED or status in (401, 403):
        return SesResponse(_result(Verdict.UNSENT, status, said), ProviderSignal.REFUSED)
    permanent = name in _PERMANENT or status == 413
    return SesResponse(_result(Verdict.PERMANENT if permanent else Verdict.TEMPORARY, status, said), ProviderSignal.WORKS)


def parse_error(status: int, kind: str, body: bytes) -> tuple[str, str]:
    """The kind of error and its text. A proxy on the way gives neither: then the HTTP status is the kind."""
    document = _document(body)
    name = kind or str(document.get("__type") or document.get("code") or "")
    name = name.partition(":")[0].rpartition("#")[2].strip()
    text = document.get("message") or document.get("Message") or ""
    return printable(name, 60) or f"HTTP {status}", printable(str(text), MAX_TEXT)


def printable(text: str, length: int) -> str:
    """`text` on one line, without control characters."""
    return _UNPRINTABLE.sub(" ", text).strip()[:length]


def _accepted(body: bytes) -> SesResponse:
    """A response without an id is an acceptance too: the status says so."""
    name = _document(body).get("MessageId")
    given = printable(name, 100) if isinstance(name, str) else ""
    return SesResponse(
        _result(Verdict.ACCEPTED, 200, f"accepted as {given}" if given else "accepted", provider_id=given), ProviderSignal.WORKS
    )


def _document(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _result(verdict: Verdict, status: int, text: str, *, throttled: bool = False, provider_id: str = "") -> Result:
    return Result(verdict, status, "", text[:MAX_TEXT], Stage.CONTENT, provider_id or None, throttled)


SEND_PATH = "/v2/email/outbound-emails"
MAX_MESSAGE = 40 * 1024 * 1024
"""Of the API v2, before base64 encoding; https://docs.aws.amazon.com/ses/latest/dg/quotas.html."""
_ADDRESS = re.compile(r'(?:[^\s<>"\x00-\x1f\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*")@[^\s<>"@\x00-\x1f\x7f]+')
_FROM = re.compile(
    rb"^From:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*?[ <]([!#-;=?-~]+@[!-;=?-~]+?)>?\r\n(?![ \t])", re.MULTILINE | re.IGNORECASE
)


class SendRequests:
    """Builds SendEmail requests with raw content, and the tags that come back in SES's events.

    What is certain to fail is refused here, before a byte is sent: too large, or an address that SES does not take.
    """

    def __init__(self, config: SesConfig) -> None:
        named = config.configuration_set
        self._start = b'{"ConfigurationSetName":' + orjson.dumps(named) + b"," if named else b"{"

    def body(self, message: OutboundMessage, content: bytes) -> bytes | Result:
        """The request's JSON, or the result that settles the message because it cannot be sent."""
        recipient = message.rcpt_to
        if not _ADDRESS.fullmatch(recipient):
            return _refusal("5.1.3", f"not an address: {recipient!r}")
        if not recipient.isascii():
            return _refusal("5.6.7", "the address is not ASCII, and SES takes only ASCII addresses")
        if len(content) > MAX_MESSAGE:
            return _refusal("5.3.4", f"the message has {len(content)} bytes, SES takes {MAX_MESSAGE} at most")
        sender = _sender(content)
        return b"".join(
            (
                self._start,
                b'"FromEmailAddress":' + orjson.dumps(sender) + b"," if sender else b"",
                b'"Destination":{"ToAddresses":[',
                orjson.dumps(recipient),
                b"]},",
                _tags(message.ref) if message.ref is not None else b"",
                b'"Content":{"Raw":{"Data":"',
                b2a_base64(content, newline=False),
                b'"}}}',
            )
        )


def _sender(content: bytes) -> str:
    """The mailbox in From, which must be an identity of the account; empty if SES should read it itself. Not the return path: SES
    has its own, and reports by events."""
    head = content[: content.find(b"\r\n\r\n") + 2 or None]
    found = _FROM.search(head)
    return found[1].decode() if found else ""


def _tags(ref: MessageRef) -> bytes:
    """Letters, digits and `-` only: nothing to escape."""
    tags = ",".join(f'{{"Name":"{name}","Value":"{value}"}}' for name, value in ses_tags(ref))
    return f'"EmailTags":[{tags}],'.encode()


def _refusal(enhanced: str, text: str) -> Result:
    return Result(Verdict.PERMANENT, 0, enhanced, text[:250], Stage.RCPT if enhanced[2] in "16" else Stage.CONTENT)


_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 1024
ACCOUNT_PATH = "/v2/email/account"


@dataclass(frozen=True, slots=True)
class SesAccount:
    """What GetAccount says, as far as it matters here.

    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetAccount.html
    """

    sends: bool
    """False: sending is paused."""
    production: bool
    """False: the sandbox, which writes to verified addresses only."""
    enforcement_status: str
    """`HEALTHY`, `PROBATION`, `SHUTDOWN`."""
    per_second: float | None
    per_day: int | None
    """In any 24 hours. None: no limit."""
    sent: int
    """In the last 24 hours, by everything that uses the account."""

    @property
    def limit(self) -> RateLimit:
        """The account's limits. A quota of 0 counts as no limit: SES then says with each message that it takes none, and why."""
        return RateLimit(self.per_second or None, self.per_day or None)


def read_account(config: SesConfig, credentials: AwsCredentials, clock: Clock) -> SesAccount:
    """GetAccount; blocks. Raises `Unavailable` if there is no readable answer, `Denied` if the credentials do not allow it."""
    document = get_json(config, credentials, ACCOUNT_PATH, clock)
    quota = document.get("SendQuota")
    if not isinstance(quota, dict):
        raise Unavailable("SES's answer about the account holds no SendQuota")
    return SesAccount(
        sends=document.get("SendingEnabled") is not False,
        production=document.get("ProductionAccessEnabled") is not False,
        enforcement_status=str(document.get("EnforcementStatus") or "HEALTHY")[:40],
        per_second=_number(quota, "MaxSendRate"),
        per_day=None if (most := _number(quota, "Max24HourSend")) is None else int(most),
        sent=int(_number(quota, "SentLast24Hours") or 0),
    )


def configuration_set_path(name: str) -> str:
    """The path of a configuration set."""
    return f"/v2/email/configuration-sets/{quote(name, safe='')}"


def event_destinations_path(name: str) -> str:
    """The path of where a configuration set's events go."""
    return f"{configuration_set_path(name)}/event-destinations"


def identity_path(name: str) -> str:
    """The path of a domain or address as a sender."""
    return f"/v2/email/identities/{quote(name, safe='')}"


def get_json(config: SesConfig, credentials: AwsCredentials, path: str, clock: Clock) -> dict[str, object]:
    """The response to a signed GET; blocks. Raises `NotFound`, `Denied` or `Unavailable`."""
    signer = Signer(credentials, host=config.authority, region=config.region)
    fields = dict(line.split(": ", 1) for line in signer.headers("GET", path, b"", clock.now()).splitlines())
    status, kind, body = _exchange(config, path, fields)
    if status == 200:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unavailable("SES's answer cannot be read") from error
        if isinstance(document, dict):
            return document
        raise Unavailable("SES's answer cannot be read")
    name, text = parse_error(status, kind, body)
    said = f"{name}: {text}" if text else name
    if name == "NotFoundException":
        raise NotFound(said)
    if status < 500 and status != 429:
        raise Denied(f"SES refuses: {said}")
    raise Unavailable(f"SES does not answer: {said}")


def _exchange(config: SesConfig, path: str, fields: dict[str, str]) -> tuple[int, str, bytes]:
    if config.encrypted:
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            config.host, config.port, timeout=_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(config.host, config.port, timeout=_TIMEOUT_S)
    with closing(connection):
        try:
            connection.request("GET", path, headers=fields)
            answer = connection.getresponse()
            return answer.status, answer.getheader("x-amzn-ErrorType") or "", answer.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise Unavailable(f"{config.host} cannot be asked: {error}") from error


def _number(quota: dict[str, object], name: str) -> float | None:
    """None for -1, which means no limit."""
    value = quota.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else None
