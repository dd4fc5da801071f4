"""Tenants and their secrets, from which recipients' keys and links' MACs are derived."""

from __future__ import annotations

from postroom.clock import Clock
from postroom.errors import Conflict, NotFound
from postroom.model.tenant import DEFAULT_TENANT, Tenant
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

_PARTITION = "#tenants"


class Tenants:
    """Who owns records. The tenant `default` comes into being when it is first asked for."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def get(self, tenant: str) -> Tenant:
        """The tenant; `NotFound`."""
        item = self._tables.get(ItemKey(_PARTITION, tenant))
        if item is None:
            if tenant != DEFAULT_TENANT:
                raise NotFound(f"there is no tenant {tenant!r}")
            return self._create_default()
        return Tenant(tenant, item.data["number"], bytes.fromhex(item.data["secret"]))

    def _create_default(self) -> Tenant:
        secret = self._clock.random(32)
        put = Put(ItemKey(_PARTITION, DEFAULT_TENANT), {"number": 0, "secret": secret.hex()}, Expect.ABSENT)
        try:
            self._tables.write([put])
        except Conflict:  # another process was first: its secret is the one
            return self.get(DEFAULT_TENANT)
        return Tenant(DEFAULT_TENANT, 0, secret)
