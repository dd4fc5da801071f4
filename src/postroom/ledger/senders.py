"""Sender identities of all tenants: by name, checked before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from postroom.clock import Clock
from postroom.errors import Conflict, NotFound, UnverifiedSender
from postroom.ledger.collection import VERSION, Collection, Derived, ListPage
from postroom.model import ids
from postroom.model.sender import SenderIdentity, covering
from postroom.platform.ports.tables import ItemKey, Tables

_DERIVED: Derived = {
    "tenant": lambda item: item.key.partition.removesuffix("#senders"),
    "name": lambda item: item.key.sort,
    **VERSION,
}


class Senders:
    """Sender identities. Each change is one conditional write on the version that was read."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, SenderIdentity, "sender", derived=_DERIVED)

    def check(self, tenant: str, from_: str) -> None:
        """Check that the tenant may send as this From address.

        Raises `UnverifiedSender`, with what to do, if neither the address nor a domain above it is verified, and
        `InvalidAddress`.
        """
        names = covering(from_)
        found = self._tables.get_many([_key(tenant, name) for name in names])
        if not any(item.data.get("verified_at") is not None for item in found.values()):
            known = " It is waiting to be verified." if found else ""
            raise UnverifiedSender(
                f"{names[0]} is no verified sender of this tenant.{known} Add it or {names[1]} under /v1/senders and verify it, "
                f"or have an operator trust it: postroom sender trust {names[0]} --tenant {tenant}"
            )

    def first_address(self, tenant: str) -> str:
        """The first verified address, as the default From of a test message. Raises `NotFound` if no verified sender is an
        address."""
        for identity in self._records.iterate(_partition(tenant)):
            if identity.verified_at is not None and "@" in identity.name:
                return identity.name
        raise NotFound("no verified sender of this tenant is an address: name one in `from`")

    def add(self, tenant: str, name: str) -> SenderIdentity:
        """Add an unverified sender, or return the existing one. `name`: from `model.sender.sender_name`."""
        token = ids.encode(int.from_bytes(self._clock.random(20), "big"), 32)
        try:
            return self._records.create(_key(tenant, name), SenderIdentity(tenant, name, token, self._clock.now()))
        except Conflict:
            return self.get(tenant, name)

    def get(self, tenant: str, name: str) -> SenderIdentity:
        """A sender of the tenant. Raises `NotFound`."""
        return self._records.get(_key(tenant, name))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[SenderIdentity]:
        """The tenant's senders by name. `limit`: 1 to 1,000."""
        return self._records.page(_partition(tenant), cursor=cursor, limit=limit)

    def change(self, identity: SenderIdentity, **fields: Any) -> SenderIdentity:
        """Replace fields of a sender as it was read. Raises `Conflict` if it was changed since."""
        return self._records.put(_key(identity.tenant, identity.name), replace(identity, **fields), identity.version)

    def remove(self, tenant: str, name: str) -> SenderIdentity:
        """Remove a sender: nothing new is sent from it, campaigns under way go on. Raises `NotFound`."""
        identity = self.get(tenant, name)
        self._records.delete(_key(tenant, name))
        return identity


def _partition(tenant: str) -> str:
    return f"{tenant}#senders"


def _key(tenant: str, name: str) -> ItemKey:
    return ItemKey(_partition(tenant), name)
