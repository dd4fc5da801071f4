"""Asks SES about the account: what it allows, whether it may send at all. Blocking, one connection a question."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import orjson

from postroom.clock import Clock
from postroom.errors import Denied, NotFound, Unavailable
from postroom.platform.mail._ses_answers import error_of
from postroom.platform.mail._sigv4 import Keys, Signer
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.ports.rates import Limit

_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 1024
ACCOUNT = "/v2/email/account"


@dataclass(frozen=True, slots=True)
class Account:
    """What `GetAccount` says, as far as it matters here."""

    sends: bool
    """False: sending is paused."""
    production: bool
    """False: the sandbox, which writes to verified addresses only."""
    standing: str
    """`HEALTHY`, `PROBATION`, `SHUTDOWN`."""
    per_second: float | None
    per_day: int | None
    """In any 24 hours. None: no limit."""
    sent: int
    """In the last 24 hours, by whoever uses the account."""

    @property
    def limit(self) -> Limit:
        """For the provider's bucket. None of a quota of nothing: SES says itself that it takes no mail, and why."""
        return Limit(self.per_second or None, self.per_day or None)


def read_account(config: SesConfig, source: Callable[[], Keys], clock: Clock) -> Account:
    """`Unavailable`: no answer that can be read. `Denied`: the keys are no good, or may not ask."""
    document = ask(config, source(), ACCOUNT, clock)
    quota = document.get("SendQuota")
    if not isinstance(quota, dict):
        raise Unavailable("SES's answer about the account holds no SendQuota")
    return Account(
        sends=document.get("SendingEnabled") is not False,
        production=document.get("ProductionAccessEnabled") is not False,
        standing=str(document.get("EnforcementStatus") or "HEALTHY")[:40],
        per_second=_number(quota, "MaxSendRate"),
        per_day=None if (most := _number(quota, "Max24HourSend")) is None else int(most),
        sent=int(_number(quota, "SentLast24Hours") or 0),
    )


def configuration_set(name: str) -> str:
    """The path of a configuration set."""
    return f"/v2/email/configuration-sets/{quote(name, safe='')}"


def event_destinations(name: str) -> str:
    """The path of where a configuration set's events go."""
    return f"{configuration_set(name)}/event-destinations"


def identity(name: str) -> str:
    """The path of a domain or address as a sender."""
    return f"/v2/email/identities/{quote(name, safe='')}"


def ask(config: SesConfig, keys: Keys, path: str, clock: Clock) -> dict[str, object]:
    """The answer to a GET. `NotFound`, `Denied`, `Unavailable`."""
    signer = Signer(keys, host=config.authority, region=config.region)
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
    name, text = error_of(status, kind, body)
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
    """SES says -1 where there is no limit."""
    value = quota.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else None
