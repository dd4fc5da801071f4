"""Callbacks (webhooks) to a tenant's own systems: endpoints, deliveries, payloads and retries.

Requests follow Standard Webhooks (standardwebhooks.com): JSON with a `type`, a `timestamp` and `data`, signed with a shared
secret. Delivery is at least once; receivers recognise duplicates by the id. Deliveries do not wait for each other: events of one
message may arrive in another order, and their `sequence` says which is the newest.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.event import EventKind
from postroom.model.networks import is_public

PREFIX: Final = "message."
TEST: Final = "postroom.test"
"""The type of a test event."""
BATCH: Final = "batch"
"""The type of a request that carries several events."""
MAX_BATCH: Final = 100
MAX_URL: Final = 2_000
MAX_DESCRIPTION: Final = 200
MAX_AGE_MS: Final = 24 * 3_600_000
"""How long a delivery is retried."""
OLD_SECRET_MS: Final = 24 * 3_600_000
"""How long after a rotation the old secret signs as well."""
SECRET_BYTES: Final = 32
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
_WAITS_S: Final = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800)
_JITTER: Final = 0.2
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain"})
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A host that ends in such a label is an IPv4 address (URL standard, "ends in a number"): `127.1` is 127.0.0.1."""


class DeliveryStatus(StrEnum):
    """The status of a delivery."""

    PENDING = "pending"
    """It waits for its first or next attempt."""
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up after `MAX_AGE_MS`; it can be redelivered."""


class CallbackEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's callback endpoint."""

    id: str
    tenant: str
    url: str
    kinds: frozenset[EventKind]
    """The kinds of events it receives."""
    description: str = ""
    batch: bool = False
    """Up to `MAX_BATCH` events in one request."""
    enabled: bool = True
    disabled_reason: str = ""
    """Why Postroom disabled it; empty if a user did."""
    campaign: str | None = None
    """The campaign whose `callback_url` it is, and whose events it receives; None: all events of the tenant."""
    created_at: Instant
    """It receives events from this time on."""
    secret_changed_at: Instant | None = None
    failing_since: Instant | None = None
    """Since when requests fail; None: the last one succeeded, or there was none."""
    version: int = 0


class CallbackDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an endpoint, retried until it is answered with 2xx."""

    id: str
    """Its `webhook-id`, the same in every attempt."""
    endpoint: str
    tenant: str
    body: str
    """The JSON exactly as signed and sent."""
    events: int = 1
    """The number of events in it."""
    created_at: Instant
    since: Instant
    """The start of its retry period: when it was created or last redelivered."""
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    due: Instant | None
    """When it is tried next; None: never."""
    last_at: Instant | None = None
    last_status: int = 0
    """The HTTP status of the last response; 0: none."""
    last_text: str = ""
    """The last response's text, cut; or why there was no response."""
    took_ms: int = 0


class EventPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of one event in a request."""

    event_id: str
    message_id: str
    campaign_id: str | None
    """None: a single message."""
    recipient: str
    """The address; empty once the person was erased."""
    sequence: int
    """Rises from event to event of one message, with gaps."""
    attempt: int
    status: str
    """The message's status now."""
    machine: bool
    bounce: dict[str, str] | None
    """`type`, `class` and `code`."""
    url: str | None
    """A click's URL."""
    detail: str


def event_type(kind: EventKind) -> str:
    """The `type` of an event in a request."""
    return PREFIX + kind.value


def parse_event_type(text: str) -> EventKind:
    """Parse a `type`. Raises `Invalid` if there is no such event."""
    try:
        return EventKind(text.removeprefix(PREFIX) if text.startswith(PREFIX) else "")
    except ValueError as error:
        names = ", ".join(event_type(kind) for kind in EventKind)
        raise Invalid(f"{text[:60]!r} is no event; there are {names}") from error


def event_payload(kind: EventKind, at: str, told: EventPayload) -> dict[str, Any]:
    """The JSON of a request; `at` is RFC 3339."""
    return {"type": event_type(kind), "timestamp": at, "data": msgspec.to_builtins(told)}


def redact_payload(body: str, is_theirs: Callable[[str], bool]) -> str:
    """The JSON without a person's data: address, texts and links of their events. Unchanged if it has no event of theirs."""
    content = json.loads(body)
    theirs = [each for each in _events_in(content) if is_theirs(each.get("recipient", ""))]
    for each in theirs:
        each.update(recipient="", detail="", url=each["url"] and "")
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) if theirs else body


def _events_in(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The events in a request."""
    data = content["data"]
    return [each["data"] for each in data["events"]] if content["type"] == BATCH else [data]


def batch_payload(events: Sequence[dict[str, Any]], at: str) -> dict[str, Any]:
    """The JSON of a request with several events."""
    return {"type": BATCH, "timestamp": at, "data": {"events": list(events)}}


def retry_delay_s(attempts: int, chance: float) -> float:
    """Seconds to wait after so many attempts: from 5 seconds to 8 hours, varied by a fifth by `chance` (0 to 1)."""
    return _WAITS_S[min(attempts, len(_WAITS_S)) - 1] * (1 + _JITTER * (2 * chance - 1))


def secret_text(secret: bytes) -> str:
    """The secret in the notation of Standard Webhooks."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def check_callback_url(text: str, networks: Sequence[str] = ()) -> str:
    """Check an endpoint's URL and return it. Raises `Invalid`. `networks`: our own networks that may be called, also without TLS.

    The addresses of a host name are checked before each request."""
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid(f"the URL must be printable ASCII, without spaces, and up to {MAX_URL:,} characters")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"{text[:80]!r} is no URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise Invalid("the URL must begin with https:// and name a host")
    if parts.username is not None or parts.fragment:
        raise Invalid("the URL may hold no user, password or fragment: requests are signed instead")
    host = host.lower().rstrip(".")
    if _NUMBER.fullmatch(host) and not _is_address(host):
        raise Invalid(f"{host} is no address: write it as four numbers, such as 192.0.2.1")
    inside = any(_holds(network, host) for network in networks)
    if _is_our_own(host) and not inside:
        raise Invalid(f"{host} is not on the public Internet; an operator can allow its network with POSTROOM_CALLBACK_NETWORKS")
    if parts.scheme == "http" and not (inside or (networks and not _is_address(host))):
        raise Invalid("the URL must begin with https://: what happened to people's mail is theirs alone")
    return text


def _is_our_own(host: str) -> bool:
    return _is_local(host) or (_is_address(host) and not is_public(host))


def _is_local(host: str) -> bool:
    """Whether the host is this machine in any DNS (RFC 6761 section 6.3)."""
    return host in _LOCAL or host.endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:  # a name
        return False
    return True


def _holds(network: str, host: str) -> bool:
    try:
        return ip_address("127.0.0.1" if _is_local(host) else host) in ip_network(network)
    except ValueError:
        return False
