"""The senders of all tenants: kept by name, checked before anything of a tenant is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, Denied, NotFound
from postroom.model import ids
from postroom.model.sender import SenderIdentity, covering
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables


class SenderPage(NamedTuple):
    """Part of a list, by name. `cursor` asks for the next part."""

    senders: list[SenderIdentity]
    cursor: str | None


class Senders:
    """See the module's text. Each change is one conditional write on the version that was read."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def check(self, tenant: str, from_: str) -> None:
        """Whether the tenant may send as this From address. `Denied`, with what to do; `Invalid`: it is no address."""
        names = covering(from_)
        found = self._tables.get_many([_key(tenant, name) for name in names])
        if not any(item.data.get("verified_at") is not None for item in found.values()):
            known = " It is waiting to be verified." if found else ""
            raise Denied(
                f"{names[0]} is no verified sender of this tenant.{known} Add it or {names[1]} under /v1/senders and verify it, "
                f"or have an operator vouch for it: postroom sender vouch {names[0]} --tenant {tenant}"
            )

    def first_address(self, tenant: str) -> str:
        """An address to send a test from where nobody named one. `NotFound`: no verified sender is an address."""
        for identity in self.list(tenant, limit=1_000).senders:
            if identity.verified_at is not None and "@" in identity.name:
                return identity.name
        raise NotFound("no verified sender of this tenant is an address: name one in `from`")

    def add(self, tenant: str, name: str) -> SenderIdentity:
        """Enter it, not yet verified; what stands there already, where it does. `name`: from `model.sender.sender_name`."""
        token = ids.encode(int.from_bytes(self._clock.random(20), "big"), 32)
        fresh = SenderIdentity(tenant, name, token, self._clock.now())
        try:
            return self._put(fresh, Expect.ABSENT)
        except Conflict:
            return self.get(tenant, name)

    def get(self, tenant: str, name: str) -> SenderIdentity:
        """`NotFound`."""
        item = self._tables.get(_key(tenant, name))
        if item is None:
            raise NotFound(f"{name} is no sender of this tenant")
        return _identity(tenant, item)

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> SenderPage:
        """By name."""
        page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit)
        return SenderPage([_identity(tenant, item) for item in page.items], page.cursor)

    def change(self, identity: SenderIdentity, **fields: Any) -> SenderIdentity:
        """`Conflict`: somebody changed it since it was read."""
        return self._put(replace(identity, **fields), identity.version)

    def remove(self, tenant: str, name: str) -> SenderIdentity:
        """Nothing new is sent from it; campaigns under way go on. `NotFound`."""
        identity = self.get(tenant, name)
        self._tables.write([Delete(_key(tenant, name))])
        return identity

    def _put(self, identity: SenderIdentity, expect: Expect | int) -> SenderIdentity:
        data = msgspec.to_builtins(identity)
        for field in ("tenant", "name", "version"):
            del data[field]
        (version,) = self._tables.write([Put(_key(identity.tenant, identity.name), data, expect)])
        return replace(identity, version=version)


def _partition(tenant: str) -> str:
    return f"{tenant}#senders"


def _key(tenant: str, name: str) -> ItemKey:
    return ItemKey(_partition(tenant), name)


def _identity(tenant: str, item: Item) -> SenderIdentity:
    try:
        return msgspec.convert({**item.data, "tenant": tenant, "name": item.key.sort, "version": item.version}, SenderIdentity)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of sender {item.key.sort} cannot be read: {error}") from error
