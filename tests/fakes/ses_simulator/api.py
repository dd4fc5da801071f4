"""SES as its API v2 describes it: SendEmail, GetAccount, GetConfigurationSet, GetEmailIdentity."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from tests.fakes.ses_simulator.rules import Options


class Reply(NamedTuple):
    """An answer to be sent."""

    status: int
    kind: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Accepted:
    """One message that was taken."""

    message_id: str
    recipient: str
    sender: str
    configuration_set: str | None
    tags: dict[str, str]
    content: bytes
    connection: int
    at: float


def error(status: int, kind: str, text: str) -> Reply:
    return Reply(status, kind, {"message": text})


class Api:
    """Holds the account and its mail. On the simulator's loop."""

    def __init__(self, options: Options, on_accepted: Callable[[Accepted], None]) -> None:
        self.options = options
        self.accepted: list[Accepted] = []
        self.violations: list[str] = []
        """What no client should send."""
        self._on_accepted = on_accepted
        self._numbers = itertools.count(1)
        self._level = (options.rate or 0) * options.burst
        self._filled_at = time.monotonic()

    def recipient(self, body: bytes) -> str:
        """Whom a call is for; empty where that cannot be read."""
        try:
            return str(json.loads(body)["Destination"]["ToAddresses"][0])
        except (ValueError, KeyError, TypeError, IndexError):
            return ""

    def get(self, path: str) -> Reply:
        options = self.options
        if path == "/v2/email/account":
            return Reply(200, "", self._account())
        if path.endswith("/event-destinations"):
            return Reply(200, "", {"EventDestinations": list(options.event_destinations)})
        for start, known in (
            ("/v2/email/configuration-sets/", options.configuration_sets),
            ("/v2/email/identities/", options.identities),
        ):
            if path.startswith(start):
                name = unquote(path.removeprefix(start))
                if name in known:
                    return Reply(200, "", {"ConfigurationSetName": name, "VerifiedForSendingStatus": True})
                return error(404, "NotFoundException", f"{name} does not exist.")
        return error(404, "UnknownOperationException", "no such operation")

    def send(self, body: bytes, connection: int) -> Reply:
        """SendEmail."""
        options = self.options
        try:
            call = json.loads(body)
            content = base64.b64decode(call["Content"]["Raw"]["Data"], validate=True)
            (recipient,) = call["Destination"]["ToAddresses"]
        except (ValueError, KeyError, TypeError) as problem:
            self.violations.append(f"SendEmail: {problem!r}")
            return error(400, "BadRequestException", f"cannot be read: {problem!r}")
        if not options.sending:
            return error(400, "SendingPausedException", "Email sending is disabled for your account")
        named = call.get("ConfigurationSetName")
        if named is not None and named not in options.configuration_sets:
            return error(404, "NotFoundException", f"Configuration set <{named}> does not exist.")
        if options.quota is not None and len(self.accepted) + options.sent >= options.quota:
            return error(429, "TooManyRequestsException", "Daily message quota exceeded.")
        if not self._may_send():
            return error(429, "TooManyRequestsException", "Maximum sending rate exceeded.")
        tags = {tag["Name"]: tag["Value"] for tag in call.get("EmailTags", [])}
        message = Accepted(
            f"0102{next(self._numbers):012x}-simulated-000000",
            recipient,
            call.get("FromEmailAddress", ""),
            named,
            tags,
            content,
            connection,
            time.time(),
        )
        self.accepted.append(message)
        self._on_accepted(message)
        return Reply(200, "", {"MessageId": message.message_id})

    def _may_send(self) -> bool:
        """A token bucket."""
        rate = self.options.rate
        if rate is None:
            return True
        now = time.monotonic()
        self._level = min(rate * self.options.burst, self._level + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def _account(self) -> dict[str, Any]:
        options = self.options
        return {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": options.standing,
            "ProductionAccessEnabled": options.production,
            "SendingEnabled": options.sending,
            "SendQuota": {
                "Max24HourSend": -1.0 if options.quota is None else float(options.quota),
                "MaxSendRate": options.rate or 1_000.0,
                "SentLast24Hours": float(len(self.accepted) + options.sent),
            },
        }
