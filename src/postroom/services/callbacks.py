"""Callback endpoints of a tenant: create, change, remove, test, list deliveries and redeliver.

Each change is one conditional write (ledger.callback_endpoints), so a crash leaves it made or not made. Removing an endpoint
takes two: the endpoint with its secret, then its deliveries. A crash between them leaves deliveries without an endpoint; they
are deleted when they come due or expire.

`callback_record` and `delivery_record` are what the API answers and `--json` prints; they never hold a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from postroom.clock import Clock, Instant, rfc3339
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.callback_deliveries import CallbackDeliveries, RedeliveryResult
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, CAMPAIGNS, CallbackEndpoints, CallbackSecrets, EndpointSettings
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.collection import ListPage
from postroom.model.callback import TEST, CallbackDelivery, CallbackEndpoint, DeliveryStatus, check_callback_url, event_type
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.ids import encode

DEFAULT_EVENTS: Final = frozenset(EventKind) - {EventKind.QUEUED}
"""Events of a new endpoint that names none: everything after a message was accepted."""
MAX_EXAMINED: Final = 10_000
"""The most deliveries that one redelivery request reads."""
_EVER: Final = Instant(0)
_PAGE: Final = 200
"""A page is small because bodies are read too: a thousand may be 100 MB."""
_TRIES: Final = 10
_TIME_LENGTH: Final = 10
_CHANCE_LENGTH: Final = 20
_CHANCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanges:
    """New values; None leaves a field unchanged."""

    url: str | None = None
    kinds: frozenset[EventKind] | None = None
    description: str | None = None
    batch: bool | None = None
    enabled: bool | None = None


class EndpointChange(NamedTuple):
    """An endpoint before and after a change."""

    was: CallbackEndpoint
    now: CallbackEndpoint


def no_precondition(endpoint: CallbackEndpoint) -> None:
    """Accepts any version of the endpoint."""


class CallbackService:
    """Manages the endpoints and deliveries of one tenant at a time."""

    def __init__(
        self,
        callbacks: CallbackEndpoints,
        secrets: CallbackSecrets,
        deliveries: CallbackDeliveries,
        *,
        campaigns: Campaigns,
        networks: Sequence[str],
        clock: Clock,
    ) -> None:
        """`networks`: our own networks that may be called."""
        self._callbacks = callbacks
        self._secrets = secrets
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._networks = networks
        self._clock = clock

    def new_id(self) -> str:
        """An unused id; `create` claims it."""
        return self._callbacks.new_id()

    def new_secret(self) -> bytes:
        """A new signing secret."""
        return self._callbacks.new_secret()

    def new_delivery_id(self) -> str:
        """The id of a test delivery. Like other delivery ids, it begins with its time."""
        chance = int.from_bytes(self._clock.random(_CHANCE_BYTES), "big")
        return encode(self._clock.now(), _TIME_LENGTH) + encode(chance, _CHANCE_LENGTH)

    def create(self, tenant: str, settings: EndpointSettings, *, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """Create an endpoint. With the same id and secret again, returns the existing one.

        Raises `Invalid` for the URL, `Conflict` if there are too many."""
        check_callback_url(settings.url, self._networks)
        return self._callbacks.create(tenant, settings, id=id, secret=secret)

    def get(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """Raises `NotFound`."""
        return self._callbacks.get(tenant, id)

    def list(self, tenant: str) -> list[CallbackEndpoint]:
        """All endpoints, oldest first."""
        return self._callbacks.list(tenant)

    def change(
        self,
        tenant: str,
        id: str,  # noqa: A002
        edit: EndpointChanges,
        *,
        demand: Callable[[CallbackEndpoint], None] = no_precondition,
    ) -> EndpointChange:
        """Change an endpoint. `demand` gets the current version and may raise.

        Raises `Invalid` for the URL, `NotFound`."""
        if edit.url is not None:
            check_callback_url(edit.url, self._networks)
        for _ in range(_TRIES):
            was = self._callbacks.get(tenant, id)
            demand(was)
            fields = _fields(was, edit)
            if not fields:
                return EndpointChange(was, was)
            try:
                return EndpointChange(was, self._callbacks.change(was, **fields))
            except Conflict:  # changed since, by another caller or by its server's answer: read again
                continue
        raise _busy(id)

    def remove(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """Delete an endpoint, its secret and its deliveries, and return it. Raises `NotFound`."""
        for _ in range(_TRIES):
            was = self._callbacks.get(tenant, id)
            try:
                self._callbacks.remove(was)
            except Conflict:  # as above
                continue
            self._deliveries.drop(tenant, id)
            return was
        raise _busy(id)

    def rotate(self, tenant: str, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """Sign with a new secret; for a day also with the previous one. Idempotent. Raises `NotFound`."""
        return self._callbacks.rotate(tenant, id, secret)

    def campaign_secret(self, tenant: str) -> bytes:
        """The secret that signs events for campaigns' own callback URLs. Created on first use."""
        return self._secrets.of_campaigns(tenant)

    def rotate_campaign_secret(self, tenant: str, secret: bytes) -> None:
        """As `rotate`, for campaigns' own callbacks."""
        self._secrets.of_campaigns(tenant)
        self._secrets.rotate(tenant, CAMPAIGNS, secret)

    def test(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """Queue a test delivery. Idempotent under the same delivery id.

        Raises `NotFound`, or `Conflict` if the endpoint is disabled."""
        endpoint = self._callbacks.get(tenant, id)
        if not endpoint.enabled:
            raise Conflict(f"the callback {id} is switched off: switch it on before you test it")
        now = self._clock.now()
        content = {"type": TEST, "timestamp": rfc3339(now), "data": {"callback_id": id}}
        body = orjson.dumps(content).decode()
        self._deliveries.add(
            [CallbackDelivery(id=delivery, endpoint=id, tenant=tenant, body=body, events=0, created_at=now, since=now, due=now)]
        )
        return self._deliveries.get(tenant, id, delivery)

    def deliveries(
        self,
        tenant: str,
        id: str,  # noqa: A002
        *,
        status: DeliveryStatus | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ListPage[CallbackDelivery]:
        """Deliveries, newest first; `limit` 1 to 1,000. Raises `NotFound`.

        Here and below `id` may be `campaign-<id>`: the deliveries of that campaign's own callback URL."""
        self._demand(tenant, id)
        return self._deliveries.list(tenant, id, status=status, cursor=cursor, limit=min(limit, _PAGE))

    def delivery(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """Raises `NotFound`."""
        self._demand(tenant, id)
        return self._deliveries.get(tenant, id, delivery)

    def redeliver(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """Deliver again, from now on and for a day, under the same id. Raises `NotFound`."""
        self._demand(tenant, id)
        return self._deliveries.redeliver(tenant, id, delivery)

    def redeliver_dead(
        self,
        tenant: str,
        id: str,  # noqa: A002
        *,
        since: Instant = _EVER,
        cursor: str | None = None,
    ) -> RedeliveryResult:
        """Redeliver dead deliveries made at `since` or later, newest first. Idempotent. Reads up to `MAX_EXAMINED` deliveries.

        Raises `NotFound`."""
        self._demand(tenant, id)
        ordered = looked_at = 0
        while True:
            part = self._deliveries.redeliver_dead(tenant, id, since=since, cursor=cursor)
            ordered, looked_at, cursor = ordered + part.ordered, looked_at + part.looked_at, part.cursor
            if cursor is None or looked_at >= MAX_EXAMINED:
                return RedeliveryResult(ordered, looked_at, cursor)

    def _demand(self, tenant: str, id: str) -> None:  # noqa: A002
        """Raises `NotFound` unless the tenant has this endpoint, or a campaign with its own callback."""
        if not id.startswith(CAMPAIGN_PREFIX):
            self._callbacks.get(tenant, id)
            return
        campaign = self._campaigns.find(CampaignRef(tenant, id.removeprefix(CAMPAIGN_PREFIX)))
        if campaign is None or self._callbacks.of_campaign(campaign) is None:
            raise NotFound(f"there is no callback {id}")


def parse_instant(text: str) -> Instant:
    """Parse RFC 3339. Raises `Invalid`."""
    try:
        at = datetime.fromisoformat(text)
        instant = Instant(round(at.timestamp() * 1000))
    except ValueError as error:
        raise Invalid(f"{text[:40]!r} is no time: write 2026-12-01T09:00:00Z") from error
    if at.tzinfo is None:
        raise Invalid(f"{text[:40]!r} has no offset: write 2026-12-01T09:00:00Z or 2026-12-01T10:00:00+01:00")
    return instant


def _fields(was: CallbackEndpoint, edit: EndpointChanges) -> dict[str, Any]:
    """Fields to replace. Enabling an endpoint or changing its URL resets its failures."""
    fields = {name: value for name in EndpointChanges.__slots__ if (value := getattr(edit, name)) is not None}
    if edit.enabled:
        fields["disabled_reason"] = ""
    if edit.enabled or fields.get("url", was.url) != was.url:
        fields["failing_since"] = None
    return {name: value for name, value in fields.items() if value != getattr(was, name)}


def _busy(id: str) -> Conflict:  # noqa: A002
    return Conflict(f"the callback {id} is being changed by others all the time; try again")


def callback_record(endpoint: CallbackEndpoint) -> dict[str, Any]:
    """The endpoint as the API shows it; times in RFC 3339."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": event_types(endpoint.kinds),
        "description": endpoint.description,
        "batch": endpoint.batch,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": rfc3339(endpoint.failing_since),
        "created_at": rfc3339(endpoint.created_at),
        "secret_changed_at": rfc3339(endpoint.secret_changed_at),
    }


def delivery_record(delivery: CallbackDelivery) -> dict[str, Any]:
    """The delivery without its payload."""
    last = {
        "at": rfc3339(delivery.last_at),
        "status": delivery.last_status or None,
        "text": delivery.last_text,
        "took_ms": delivery.took_ms,
    }
    return {
        "id": delivery.id,
        "status": delivery.status.value,
        "events": delivery.events,
        "created_at": rfc3339(delivery.created_at),
        "tries": delivery.attempts,
        "next_at": rfc3339(delivery.due),
        "last": None if delivery.last_at is None else last,
    }


def whole_delivery(delivery: CallbackDelivery) -> dict[str, Any]:
    """The delivery with its payload."""
    return {**delivery_record(delivery), "body": delivery.body}


def event_types(kinds: Collection[EventKind]) -> list[str]:
    """Names of the events, in the order of a message's life."""
    return [event_type(kind) for kind in EventKind if kind in kinds]
