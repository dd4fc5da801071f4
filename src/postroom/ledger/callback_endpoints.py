"""The secrets that callbacks are signed with, sealed: each endpoint's, and the tenant's for its campaigns' own callbacks.

    {tenant}#callback-secrets / endpoint or `campaigns`     secret, and for a day after a rotation the one before
    #callback-seals / {tenant}/{endpoint or `campaigns`}    which there are, for a rotation of the master key

A secret and its line among the seals are one write, so a crash leaves both or neither.

Where tenants want to be told what happens to their mail. Record and secret are one write: a crash leaves both or neither.

A campaign may name an endpoint of its own, in its record: `Callbacks.of_campaign` makes it one like the others, but that it has
no record here, so it is never switched off; what it cannot be told is given up after a day like everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.collection import every
from postroom.ledger.resealing import reseal_each, reseal_fields
from postroom.model import ids
from postroom.model.callback import OLD_SECRET_MS, SECRET_BYTES, CallbackEndpoint
from postroom.model.campaign import Campaign
from postroom.model.event import EventKind
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

CAMPAIGNS: Final = "campaigns"


"""The name of the tenant's secret for what a campaign's `callback_url` is told."""


_SEALS: Final = "#callback-seals"


_TRIES: Final = 10


class CallbackSecrets:
    """Of all tenants."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock

    def writes(self, tenant: str, name: str, secret: bytes) -> list[Write]:
        """What stores a first secret, for the caller's own write."""
        data = {"secret": self._sealed(tenant, name, secret)}
        return [Put(_secret_key(tenant, name), data, Expect.ABSENT), Put(_seal(tenant, name), {})]

    def deletes(self, tenant: str, name: str) -> list[Write]:
        """What forgets it."""
        return [Delete(_secret_key(tenant, name)), Delete(_seal(tenant, name))]

    def of_campaigns(self, tenant: str) -> bytes:
        """The tenant's own, made when it is first asked for."""
        if self._tables.get(_secret_key(tenant, CAMPAIGNS)) is None:
            with suppress(Conflict):  # somebody else was first: theirs is the one
                self._tables.write(self.writes(tenant, CAMPAIGNS, self._clock.random(SECRET_BYTES)))
        return self.get(tenant, CAMPAIGNS)[0]

    def get(self, tenant: str, name: str) -> list[bytes]:
        """Which to sign with now, the newest first. `NotFound`; `Corrupt`, `Unavailable`: they cannot be opened."""
        data = self._item(tenant, name).data
        texts = [data["secret"]]
        if data.get("old_until", 0) > self._clock.now():
            texts.append(data["old"])
        return [self._secrets.open(_purpose(tenant, name), text) for text in texts]

    def rotate(self, tenant: str, name: str, secret: bytes) -> None:
        """Sign with this one from now on, and with the one before for a day. Again: harmless. `NotFound`."""
        for _ in range(_TRIES):
            item = self._item(tenant, name)
            if self._secrets.open(_purpose(tenant, name), item.data["secret"]) == secret:
                return
            old_until = Instant(self._clock.now() + OLD_SECRET_MS)
            data = {"secret": self._sealed(tenant, name, secret), "old": item.data["secret"], "old_until": old_until}
            with suppress(Conflict):  # somebody changed it since: look again
                self._tables.write([Put(item.key, data, item.version)])
                return
        raise Conflict("the secret is being changed by others all the time; try again")

    def reseal(self) -> tuple[int, int]:
        """Seal every secret under the newest master key: how many were, and how many cannot be."""
        return reseal_each(self._sealed_ones(), self._resealed)

    def _resealed(self, owner: tuple[str, str]) -> bool:
        return reseal_fields(self._tables, self._secrets, _secret_key(*owner), purpose=_purpose(*owner), fields=("secret", "old"))

    def _sealed_ones(self) -> Iterator[tuple[str, str]]:
        for item in every(self._tables, _SEALS):
            tenant, _, name = item.key.sort.partition("/")
            yield tenant, name

    def _item(self, tenant: str, name: str) -> Item:
        item = self._tables.get(_secret_key(tenant, name))
        if item is None:
            raise NotFound(f"there is no secret of the callback {name}")
        return item

    def _sealed(self, tenant: str, name: str, secret: bytes) -> str:
        return self._secrets.seal(_purpose(tenant, name), secret)


def _secret_key(tenant: str, name: str) -> ItemKey:
    return ItemKey(f"{tenant}#callback-secrets", name)


def _seal(tenant: str, name: str) -> ItemKey:
    return ItemKey(_SEALS, f"{tenant}/{name}")


def _purpose(tenant: str, name: str) -> str:
    return f"callback/{tenant}/{name}"


MAX_ENDPOINTS: Final = 50


"""Endpoints of one tenant: they are listed together, without pages. Calls at the same time may pass it by a few."""


CAMPAIGN_PREFIX: Final = "campaign-"


"""What the id of a campaign's own endpoint begins with; the campaign's follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What an endpoint is made from, or becomes."""

    url: str
    kinds: frozenset[EventKind]
    description: str = ""
    batch: bool = False


Endpoints = list[CallbackEndpoint]


class CallbackEndpoints:
    """Of all tenants."""

    def __init__(self, tables: Tables, secrets: CallbackSecrets, clock: Clock) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock

    def new_id(self) -> str:
        """An id nobody has used; `create` is what claims it."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def new_secret(self) -> bytes:
        """What requests are signed with."""
        return self._clock.random(SECRET_BYTES)

    def create(self, tenant: str, wishes: EndpointSettings, *, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """A new one. Again with the same id: the one there is. `Conflict`: there are too many."""
        if (known := self._tables.get(_endpoint_key(tenant, id))) is not None:
            return _endpoint(known)
        if len(self.list(tenant)) >= MAX_ENDPOINTS:
            raise Conflict(f"there are {MAX_ENDPOINTS} callbacks already, the most there may be")
        endpoint = CallbackEndpoint(
            id=id,
            tenant=tenant,
            url=wishes.url,
            kinds=wishes.kinds,
            description=wishes.description,
            batch=wishes.batch,
            created_at=self._clock.now(),
        )
        try:
            put = Put(_endpoint_key(tenant, id), _data(endpoint), Expect.ABSENT)
            version, *_ = self._tables.write([put, *self._secrets.writes(tenant, id, secret)])
        except Conflict:  # the same call was made at the same time
            return self.get(tenant, id)
        return msgspec.structs.replace(endpoint, version=version)

    def get(self, tenant: str, id: str) -> CallbackEndpoint:  # noqa: A002
        """One of the tenant's; `NotFound`."""
        item = self._tables.get(_endpoint_key(tenant, id))
        if item is None:
            raise NotFound(f"there is no callback {id}")
        return _endpoint(item)

    def list(self, tenant: str) -> Endpoints:
        """The tenant's, oldest first."""
        return [_endpoint(item) for item in every(self._tables, _partition(tenant))]

    def change(self, was: CallbackEndpoint, **fields: Any) -> CallbackEndpoint:
        """Replace fields of it as it was read. `Conflict`: somebody changed it since."""
        changed = msgspec.structs.replace(was, **fields)
        (version,) = self._tables.write([Put(_endpoint_key(was.tenant, was.id), _data(changed), was.version)])
        return msgspec.structs.replace(changed, version=version)

    def remove(self, was: CallbackEndpoint) -> None:
        """Forget it as it was read, with its secret. `Conflict`: somebody changed it since."""
        deletes = self._secrets.deletes(was.tenant, was.id)
        self._tables.write([Delete(_endpoint_key(was.tenant, was.id), was.version), *deletes])

    def rotate(self, tenant: str, id: str, secret: bytes) -> CallbackEndpoint:  # noqa: A002
        """Sign with another secret; for a day with the one before too. Again: harmless. `NotFound`."""
        self.get(tenant, id)
        self._secrets.rotate(tenant, id, secret)
        return self._update(tenant, id, secret_changed_at=self._clock.now())

    def signing_secrets(self, endpoint: CallbackEndpoint) -> Sequence[bytes]:
        """Which to sign with now, the newest first. `NotFound`: it was removed."""
        if endpoint.campaign is not None:
            self._secrets.of_campaigns(endpoint.tenant)
            return self._secrets.get(endpoint.tenant, CAMPAIGNS)
        return self._secrets.get(endpoint.tenant, endpoint.id)

    def failed(self, endpoint: CallbackEndpoint) -> None:
        """A request was not answered well."""
        if endpoint.campaign is None and endpoint.failing_since is None:
            self._update(endpoint.tenant, endpoint.id, failing_since=self._clock.now())

    def worked(self, endpoint: CallbackEndpoint) -> None:
        """A request was answered well."""
        if endpoint.failing_since is not None:
            self._update(endpoint.tenant, endpoint.id, failing_since=None)

    def disable(self, endpoint: CallbackEndpoint, reason: str) -> CallbackEndpoint:
        """Switch it off, for nobody is there; a person switches it on again."""
        return self._update(endpoint.tenant, endpoint.id, enabled=False, disabled_reason=reason)

    def of_campaign(self, campaign: Campaign) -> CallbackEndpoint | None:
        """The one that the campaign names; None: it names none."""
        if campaign.callback_url is None:
            return None
        ref = campaign.ref
        return CallbackEndpoint(
            id=CAMPAIGN_PREFIX + ref.campaign,
            tenant=ref.tenant,
            url=campaign.callback_url,
            kinds=frozenset(EventKind),
            campaign=ref.campaign,
            created_at=campaign.created_at,
        )

    def _update(self, tenant: str, id: str, **fields: Any) -> CallbackEndpoint:  # noqa: A002
        for _ in range(_TRIES):
            endpoint = self.get(tenant, id)
            try:
                return self.change(endpoint, **fields)
            except Conflict:  # somebody changed it since: look again
                continue
        raise Conflict(f"the callback {id} is being changed by others all the time; try again")


def _partition(tenant: str) -> str:
    return f"{tenant}#callbacks"


def _endpoint_key(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_partition(tenant), id)


def _data(endpoint: CallbackEndpoint) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(endpoint)
    del data["version"]
    return {**data, "kinds": sorted(data["kinds"])}


def _endpoint(item: Item) -> CallbackEndpoint:
    try:
        return msgspec.convert({**item.data, "version": item.version}, CallbackEndpoint)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of callback {item.key.sort} cannot be read: {error}") from error
