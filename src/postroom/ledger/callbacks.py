"""Where tenants want to be told what happens to their mail. Record and secret are one write: a crash leaves both or neither.

A campaign may name an endpoint of its own, in its record: `Callbacks.of_campaign` makes it one like the others, but that it has
no record here, so it is never switched off; what it cannot be told is given up after a day like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.callback_secrets import CAMPAIGNS, CallbackSecrets
from postroom.ledger.pages import every
from postroom.model import ids
from postroom.model.callback import SECRET_BYTES, Endpoint
from postroom.model.campaign import Campaign
from postroom.model.event import EventKind
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

MOST: Final = 50
"""Endpoints of one tenant: they are listed together, without pages. Calls at the same time may pass it by a few."""
OF_CAMPAIGN: Final = "campaign-"
"""What the id of a campaign's own endpoint begins with; the campaign's follows."""
_TRIES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What an endpoint is made from, or becomes."""

    url: str
    kinds: frozenset[EventKind]
    description: str = ""
    batch: bool = False


Endpoints = list[Endpoint]


class Callbacks:
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

    def create(self, tenant: str, wishes: Wishes, *, id: str, secret: bytes) -> Endpoint:  # noqa: A002
        """A new one. Again with the same id: the one there is. `Conflict`: there are too many."""
        if (known := self._tables.get(_key(tenant, id))) is not None:
            return _endpoint(known)
        if len(self.list(tenant)) >= MOST:
            raise Conflict(f"there are {MOST} callbacks already, the most there may be")
        endpoint = Endpoint(
            id=id,
            tenant=tenant,
            url=wishes.url,
            kinds=wishes.kinds,
            description=wishes.description,
            batch=wishes.batch,
            created_at=self._clock.now(),
        )
        try:
            put = Put(_key(tenant, id), _data(endpoint), Expect.ABSENT)
            version, *_ = self._tables.write([put, *self._secrets.writes(tenant, id, secret)])
        except Conflict:  # the same call was made at the same time
            return self.get(tenant, id)
        return msgspec.structs.replace(endpoint, version=version)

    def get(self, tenant: str, id: str) -> Endpoint:  # noqa: A002
        """One of the tenant's; `NotFound`."""
        item = self._tables.get(_key(tenant, id))
        if item is None:
            raise NotFound(f"there is no callback {id}")
        return _endpoint(item)

    def list(self, tenant: str) -> Endpoints:
        """The tenant's, oldest first."""
        return [_endpoint(item) for item in every(self._tables, _partition(tenant))]

    def change(self, was: Endpoint, **fields: Any) -> Endpoint:
        """Replace fields of it as it was read. `Conflict`: somebody changed it since."""
        changed = msgspec.structs.replace(was, **fields)
        (version,) = self._tables.write([Put(_key(was.tenant, was.id), _data(changed), was.version)])
        return msgspec.structs.replace(changed, version=version)

    def remove(self, was: Endpoint) -> None:
        """Forget it as it was read, with its secret. `Conflict`: somebody changed it since."""
        deletes = self._secrets.deletes(was.tenant, was.id)
        self._tables.write([Delete(_key(was.tenant, was.id), was.version), *deletes])

    def rotate(self, tenant: str, id: str, secret: bytes) -> Endpoint:  # noqa: A002
        """Sign with another secret; for a day with the one before too. Again: harmless. `NotFound`."""
        self.get(tenant, id)
        self._secrets.rotate(tenant, id, secret)
        return self._update(tenant, id, secret_changed_at=self._clock.now())

    def signing_secrets(self, endpoint: Endpoint) -> Sequence[bytes]:
        """Which to sign with now, the newest first. `NotFound`: it was removed."""
        if endpoint.campaign is not None:
            self._secrets.of_campaigns(endpoint.tenant)
            return self._secrets.get(endpoint.tenant, CAMPAIGNS)
        return self._secrets.get(endpoint.tenant, endpoint.id)

    def failed(self, endpoint: Endpoint) -> None:
        """A request was not answered well."""
        if endpoint.campaign is None and endpoint.failing_since is None:
            self._update(endpoint.tenant, endpoint.id, failing_since=self._clock.now())

    def worked(self, endpoint: Endpoint) -> None:
        """A request was answered well."""
        if endpoint.failing_since is not None:
            self._update(endpoint.tenant, endpoint.id, failing_since=None)

    def disable(self, endpoint: Endpoint, reason: str) -> Endpoint:
        """Switch it off, for nobody is there; a person switches it on again."""
        return self._update(endpoint.tenant, endpoint.id, enabled=False, disabled_reason=reason)

    def of_campaign(self, campaign: Campaign) -> Endpoint | None:
        """The one that the campaign names; None: it names none."""
        if campaign.callback_url is None:
            return None
        ref = campaign.ref
        return Endpoint(
            id=OF_CAMPAIGN + ref.campaign,
            tenant=ref.tenant,
            url=campaign.callback_url,
            kinds=frozenset(EventKind),
            campaign=ref.campaign,
            created_at=campaign.created_at,
        )

    def _update(self, tenant: str, id: str, **fields: Any) -> Endpoint:  # noqa: A002
        for _ in range(_TRIES):
            endpoint = self.get(tenant, id)
            try:
                return self.change(endpoint, **fields)
            except Conflict:  # somebody changed it since: look again
                continue
        raise Conflict(f"the callback {id} is being changed by others all the time; try again")


def _partition(tenant: str) -> str:
    return f"{tenant}#callbacks"


def _key(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_partition(tenant), id)


def _data(endpoint: Endpoint) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(endpoint)
    del data["version"]
    return {**data, "kinds": sorted(data["kinds"])}


def _endpoint(item: Item) -> Endpoint:
    try:
        return msgspec.convert({**item.data, "version": item.version}, Endpoint)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of callback {item.key.sort} cannot be read: {error}") from error
