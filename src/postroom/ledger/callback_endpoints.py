"""Callback endpoints of tenants, and the secrets that their requests are signed with.

    {tenant}#callbacks / id                                 the endpoint
    {tenant}#callback-secrets / endpoint or `campaigns`     its sealed secret; for a day after a rotation also the one before
    #callback-seals / {tenant}/{endpoint or `campaigns`}    which secrets exist, for a rotation of the master key

An endpoint, its secret and the secret's line among the seals are one atomic write: a crash leaves all or none.

A campaign may name a callback URL of its own, in its record. `CallbackEndpoints.of_campaign` makes an endpoint of it that has no
record here, so it is never disabled; its deliveries are given up after a day like all others. All such endpoints of a tenant
share the secret `campaigns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, QuotaExceeded
from postroom.ledger.collection import VERSION, Collection, iterate_items, write_retrying
from postroom.ledger.resealing import reseal_each, reseal_fields
from postroom.model import ids
from postroom.model.callback import OLD_SECRET_MS, SECRET_BYTES, CallbackEndpoint
from postroom.model.campaign import Campaign
from postroom.model.event import EventKind
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

MAX_ENDPOINTS: Final = 50
"""Endpoints of one tenant: they are listed without pages. Concurrent calls may exceed it by a few."""
CAMPAIGN_PREFIX: Final = "campaign-"
"""Ids of campaigns' own endpoints: this and the campaign's id."""
CAMPAIGNS: Final = "campaigns"
"""The name of the secret of campaigns' own endpoints."""
_SEALS: Final = "#callback-seals"


class CallbackSecrets:
    """The signing secrets of all tenants, sealed."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock

    def writes(self, tenant: str, name: str, secret: bytes) -> list[Write]:
        """The writes that store a first secret."""
        data = {"secret": self._sealed(tenant, name, secret)}
        return [Put(_secret_key(tenant, name), data, Expect.ABSENT), Put(_seal(tenant, name), {})]

    def deletes(self, tenant: str, name: str) -> list[Write]:
        """The writes that delete a secret."""
        return [Delete(_secret_key(tenant, name)), Delete(_seal(tenant, name))]

    def of_campaigns(self, tenant: str) -> bytes:
        """The secret of campaigns' own endpoints, created when it is first read."""
        if self._tables.get(_secret_key(tenant, CAMPAIGNS)) is None:
            with suppress(Conflict):  # another process created it: its secret counts
                self._tables.write(self.writes(tenant, CAMPAIGNS, self._clock.random(SECRET_BYTES)))
        return self.get(tenant, CAMPAIGNS)[0]

    def get(self, tenant: str, name: str) -> list[bytes]:
        """The secrets to sign with now, newest first. Raises `NotFound`; `Corrupt` or `Unavailable` if one cannot be opened."""
        data = self._item(tenant, name).data
        texts = [data["secret"]]
        if data.get("old_until", 0) > self._clock.now():
            texts.append(data["old"])
        return [self._secrets.open(_purpose(tenant, name), text) for text in texts]

    def rotate(self, tenant: str, name: str, secret: bytes) -> None:
        """Sign with this secret from now on, and for a day also with the one before. Repeatable. Raises `NotFound`."""

        def plan() -> tuple[list[Write], None]:
            item = self._item(tenant, name)
            if self._secrets.open(_purpose(tenant, name), item.data["secret"]) == secret:
                return [], None
            old_until = Instant(self._clock.now() + OLD_SECRET_MS)
            data = {"secret": self._sealed(tenant, name, secret), "old": item.data["secret"], "old_until": old_until}
            return [Put(item.key, data, item.version)], None

        write_retrying(self._tables, plan, "the secret")

    def reseal(self) -> tuple[int, int]:
        """Seal every secret under the newest master key: how many were resealed, and how many cannot be opened."""
        return reseal_each(self._sealed_ones(), self._resealed)

    def _resealed(self, owner: tuple[str, str]) -> bool:
        return reseal_fields(self._tables, self._secrets, _secret_key(*owner), purpose=_purpose(*owner), fields=("secret", "old"))

    def _sealed_ones(self) -> Iterator[tuple[str, str]]:
        for item in iterate_items(self._tables, _SEALS):
            tenant, _, name = item.key.sort.partition("/")
            yield tenant, name

    def _item(self, tenant: str, name: str) -> Item:
        item = self._tables.get(_secret_key(tenant, name))
        if item is None:
            raise NotFound(f"there is no secret of the callback {name}")
        return item

    def _sealed(self, tenant: str, name: str, secret: bytes) -> str:
        return self._secrets.seal(_purpose(tenant, name), secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What a caller chooses of an endpoint."""

    url: str
    kinds: frozenset[EventKind]
    description: str = ""
    batch: bool = False


Endpoints = list[CallbackEndpoint]


class CallbackEndpoints:
    """The callback endpoints of all tenants."""

    def __init__(self, tables: Tables, secrets: CallbackSecrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock
        self._records = Collection(tables, CallbackEndpoint, "callback", derived=VERSION)

    def new_id(self) -> str:
        """A new id. It is taken only when `create` stores it."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def new_secret(self) -> bytes:
        """A new signing secret."""
        return self._clock.random(SECRET_BYTES)

    def create(self, tenant: str, settings: EndpointSettings, *, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """Store a new endpoint. With an id that exists: returns that one. Raises `Conflict` at `MAX_ENDPOINTS`."""
        if (known := self._records.find(_endpoint_key(tenant, id))) is not None:
            return known
        if len(self.list(tenant)) >= MAX_ENDPOINTS:
            raise QuotaExceeded(f"there are {MAX_ENDPOINTS} callbacks already, the most a tenant may have")
        endpoint = CallbackEndpoint(
            id=id,
            tenant=tenant,
            url=settings.url,
            kinds=settings.kinds,
            description=settings.description,
            batch=settings.batch,
            created_at=self._clock.now(),
        )
        try:
            return self._records.create(_endpoint_key(tenant, id), endpoint, also=self._secrets.writes(tenant, id, secret))
        except Conflict:  # the same call was made at the same time
            return self.get(tenant, id)

    def get(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """An endpoint of the tenant. Raises `NotFound`."""
        return self._records.get(_endpoint_key(tenant, id))

    def list(self, tenant: str) -> Endpoints:
        """The tenant's endpoints, oldest first."""
        return [*self._records.iterate(_partition(tenant))]

    def change(self, was: CallbackEndpoint, **fields: Any) -> CallbackEndpoint:
        """Replace fields of an endpoint as it was read. Raises `Conflict` if it was changed since."""
        return self._records.put(_endpoint_key(was.tenant, was.id), replace(was, **fields), was.version)

    def remove(self, was: CallbackEndpoint) -> None:
        """Delete an endpoint as it was read, with its secret. Raises `Conflict` if it was changed since."""
        self._records.delete(_endpoint_key(was.tenant, was.id), was.version, also=self._secrets.deletes(was.tenant, was.id))

    def rotate(self, tenant: str, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """Sign with another secret, and for a day also with the one before. Repeatable. Raises `NotFound`."""
        self.get(tenant, id)
        self._secrets.rotate(tenant, id, secret)
        return self._update(tenant, id, secret_changed_at=self._clock.now())

    def signing_secrets(self, endpoint: CallbackEndpoint) -> Sequence[bytes]:
        """The secrets to sign with now, newest first. Raises `NotFound` if the endpoint was removed."""
        if endpoint.campaign is not None:
            self._secrets.of_campaigns(endpoint.tenant)
            return self._secrets.get(endpoint.tenant, CAMPAIGNS)
        return self._secrets.get(endpoint.tenant, endpoint.id)

    def failed(self, endpoint: CallbackEndpoint) -> None:
        """Record that a request failed."""
        if endpoint.campaign is None and endpoint.failing_since is None:
            self._update(endpoint.tenant, endpoint.id, failing_since=self._clock.now())

    def worked(self, endpoint: CallbackEndpoint) -> None:
        """Record that a request succeeded."""
        if endpoint.failing_since is not None:
            self._update(endpoint.tenant, endpoint.id, failing_since=None)

    def disable(self, endpoint: CallbackEndpoint, reason: str) -> CallbackEndpoint:
        """Disable an endpoint that does not answer, until a user enables it."""
        return self._update(endpoint.tenant, endpoint.id, enabled=False, disabled_reason=reason)

    def of_campaign(self, campaign: Campaign) -> CallbackEndpoint | None:
        """The campaign's own endpoint, or None if it names no callback URL."""
        if campaign.spec.callback_url is None:
            return None
        ref = campaign.ref
        return CallbackEndpoint(
            id=CAMPAIGN_PREFIX + ref.campaign,
            tenant=ref.tenant,
            url=campaign.spec.callback_url,
            kinds=frozenset(EventKind),
            campaign=ref.campaign,
            created_at=campaign.created_at,
        )

    def _update(self, tenant: str, id: str, **fields: Any) -> CallbackEndpoint:  # noqa: A002
        return self._records.update(_endpoint_key(tenant, id), lambda endpoint: replace(endpoint, **fields))


def _secret_key(tenant: str, name: str) -> ItemKey:
    return ItemKey(f"{tenant}#callback-secrets", name)


def _seal(tenant: str, name: str) -> ItemKey:
    return ItemKey(_SEALS, f"{tenant}/{name}")


def _purpose(tenant: str, name: str) -> str:
    return f"callback/{tenant}/{name}"


def _partition(tenant: str) -> str:
    return f"{tenant}#callbacks"


def _endpoint_key(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_partition(tenant), id)
