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
"""What is told where nothing else is wished: everything after a message was accepted."""
MAX_EXAMINED: Final = 10_000
"""Deliveries, by one order to redeliver."""
_EVER: Final = Instant(0)
_PAGE: Final = 200
"""Bodies are read too: of a thousand they may be 100 MB."""
_TRIES: Final = 10
_TIME_LENGTH: Final = 10
_CHANCE_LENGTH: Final = 20
_CHANCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanges:
    """What is to be different; None: it stays."""

    url: str | None = None
    kinds: frozenset[EventKind] | None = None
    description: str | None = None
    batch: bool | None = None
    enabled: bool | None = None


class EndpointChange(NamedTuple):
    """What a change made of one."""

    was: CallbackEndpoint
    now: CallbackEndpoint


def no_precondition(endpoint: CallbackEndpoint) -> None:
    """A change that is not about what was read before."""


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
        """`networks`: those of our own that may be called."""
        self._callbacks = callbacks
        self._secrets = secrets
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._networks = networks
        self._clock = clock

    def new_id(self) -> str:
        """An id nobody has used; `create` is what claims it."""
        return self._callbacks.new_id()

    def new_secret(self) -> bytes:
        """What requests are signed with."""
        return self._callbacks.new_secret()

    def new_delivery_id(self) -> str:
        """Of a test; it begins with its time, like those of other deliveries."""
        chance = int.from_bytes(self._clock.random(_CHANCE_BYTES), "big")
        return encode(self._clock.now(), _TIME_LENGTH) + encode(chance, _CHANCE_LENGTH)

    def create(self, tenant: str, wishes: EndpointSettings, *, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """A new one. Again with the same id and secret: the one there is. `Invalid`: the URL; `Conflict`: there are too many."""
        check_callback_url(wishes.url, self._networks)
        return self._callbacks.create(tenant, wishes, id=id, secret=secret)

    def get(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """One; `NotFound`."""
        return self._callbacks.get(tenant, id)

    def list(self, tenant: str) -> list[CallbackEndpoint]:
        """All, oldest first."""
        return self._callbacks.list(tenant)

    def change(
        self,
        tenant: str,
        id: str,  # noqa: A002
        edit: EndpointChanges,
        *,
        demand: Callable[[CallbackEndpoint], None] = no_precondition,
    ) -> EndpointChange:
        """Change it as it stands; `demand` is shown that, and may raise. `Invalid`: the URL; `NotFound`."""
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
            except Conflict:  # changed since, by somebody or by what its server answered: look again
                continue
        raise _busy(id)

    def remove(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """Forget it, its secret, what is still to be told and what was; what it was. `NotFound`."""
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
        """Sign with this one from now on, for a day with the one before too. Again: harmless. `NotFound`."""
        return self._callbacks.rotate(tenant, id, secret)

    def campaign_secret(self, tenant: str) -> bytes:
        """What is signed with that campaigns' own callbacks are told; made when it is first asked for."""
        return self._secrets.of_campaigns(tenant)

    def rotate_campaign_secret(self, tenant: str, secret: bytes) -> None:
        """As `rotate`."""
        self._secrets.of_campaigns(tenant)
        self._secrets.rotate(tenant, CAMPAIGNS, secret)

    def test(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """Have it told of nothing, by the way that events take. Again with the same id: harmless. `Conflict`: it is switched
        off; `NotFound`."""
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
        """What it was, or is to be, told, newest first; `limit` 1 to 1,000. Here and below `id` may be `campaign-<its id>`: what
        a campaign's own callback is told. `NotFound`: there is none."""
        self._demand(tenant, id)
        return self._deliveries.list(tenant, id, status=status, cursor=cursor, limit=min(limit, _PAGE))

    def delivery(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """One of them; `NotFound`."""
        self._demand(tenant, id)
        return self._deliveries.get(tenant, id, delivery)

    def redeliver(self, tenant: str, id: str, delivery: str) -> CallbackDelivery:  # noqa: A002
        """Have it told again, now and for a day, under the same id. `NotFound`."""
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
        """The same with all that was given up and made at `since` or later, of up to `MOST_LOOKED_AT`, newest first. Again:
        harmless. `NotFound`."""
        self._demand(tenant, id)
        ordered = looked_at = 0
        while True:
            part = self._deliveries.redeliver_dead(tenant, id, since=since, cursor=cursor)
            ordered, looked_at, cursor = ordered + part.ordered, looked_at + part.looked_at, part.cursor
            if cursor is None or looked_at >= MAX_EXAMINED:
                return RedeliveryResult(ordered, looked_at, cursor)

    def _demand(self, tenant: str, id: str) -> None:  # noqa: A002
        """`NotFound`: the tenant has no such callback, and no campaign that names one."""
        if not id.startswith(CAMPAIGN_PREFIX):
            self._callbacks.get(tenant, id)
            return
        campaign = self._campaigns.find(CampaignRef(tenant, id.removeprefix(CAMPAIGN_PREFIX)))
        if campaign is None or self._callbacks.of_campaign(campaign) is None:
            raise NotFound(f"there is no callback {id}")


def parse_instant(text: str) -> Instant:
    """From RFC 3339; `Invalid`."""
    try:
        at = datetime.fromisoformat(text)
        instant = Instant(round(at.timestamp() * 1000))
    except ValueError as error:
        raise Invalid(f"{text[:40]!r} is no time: write 2026-12-01T09:00:00Z") from error
    if at.tzinfo is None:
        raise Invalid(f"{text[:40]!r} has no offset: write 2026-12-01T09:00:00Z or 2026-12-01T10:00:00+01:00")
    return instant


def _fields(was: CallbackEndpoint, edit: EndpointChanges) -> dict[str, Any]:
    """What is to differ. One that is switched on, or leads elsewhere, has not failed yet."""
    fields = {name: value for name in EndpointChanges.__slots__ if (value := getattr(edit, name)) is not None}
    if edit.enabled:
        fields["disabled_reason"] = ""
    if edit.enabled or fields.get("url", was.url) != was.url:
        fields["failing_since"] = None
    return {name: value for name, value in fields.items() if value != getattr(was, name)}


def _busy(id: str) -> Conflict:  # noqa: A002
    return Conflict(f"the callback {id} is being changed by others all the time; try again")


def callback_record(endpoint: CallbackEndpoint) -> dict[str, Any]:
    """In words of the API; times in RFC 3339."""
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
    """Without what it says."""
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
    """With what it says, to the letter."""
    return {**delivery_record(delivery), "body": delivery.body}


def event_types(kinds: Collection[EventKind]) -> list[str]:
    """In the order of a message's life."""
    return [event_type(kind) for kind in EventKind if kind in kinds]
