"""Tenants and their secrets, from which recipients' keys and links' MACs are derived.

A tenant is made in one write together with the claim of its number: a crash leaves both or neither. A claim is never deleted, so
a number on an old link never means somebody else. Two who claim the same number have one winner; the other takes the next.

One at a time: a tenant's long work that two must not do at once, whichever processes they are in.

Whoever was killed while he had the turn holds up the others for two minutes at most. The record of a turn stays, free, when it
ends: its versions only rise, so somebody who comes to life too late cannot take his old turn for the present one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from postroom.clock import Clock
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.tenant import DEFAULT_TENANT, MAX_NUMBER, Tenant, is_tenant_id
from postroom.platform.ports.tables import Expect, Item, ItemKey, Put, Tables

_PARTITION = "#tenants"


_NUMBERS = "#tenant-numbers"


RESERVED = "me"


"""Stands for the caller's own in addresses."""


_TRIES = 10


_REMEMBERED_S = 5.0


_REMEMBERED = 10_000


class TenantPage(NamedTuple):
    """Part of a list, in the order of ids. `cursor` asks for the next part."""

    tenants: list[Tenant]
    cursor: str | None


class Tenants:
    """Who owns records. The tenant `default` comes into being when it is first asked for."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._recent: TtlCache[str, Tenant] = TtlCache(clock, most=_REMEMBERED)

    def get(self, tenant: str) -> Tenant:
        """The tenant; `NotFound`. Number and secret never change; the rest may be some seconds old."""
        return self._recent.get(tenant) or self.read(tenant)

    def read(self, tenant: str) -> Tenant:
        """As it is now; `NotFound`."""
        item = self._tables.get(ItemKey(_PARTITION, tenant)) if is_tenant_id(tenant) else None
        if item is None and tenant != DEFAULT_TENANT:
            raise NotFound(f"there is no tenant {tenant!r}")
        return self._create_default() if item is None else self._remembered(_tenant(item))

    def by_number(self, number: int) -> Tenant:
        """Whose number it is, as a link on the wire has it; `NotFound`."""
        if number == 0:
            return self.get(DEFAULT_TENANT)
        item = self._tables.get(ItemKey(_NUMBERS, _digits(number)))
        if item is None:
            raise NotFound(f"no tenant has the number {number}")
        return self.get(item.data["tenant"])

    def list(self, *, cursor: str | None = None, limit: int = 100) -> TenantPage:
        """All tenants; `limit` 1 to 1,000."""
        self.get(DEFAULT_TENANT)
        page = self._tables.query(_PARTITION, cursor=cursor, limit=limit)
        return TenantPage([_tenant(item) for item in page.items], page.cursor)

    def create(self, tenant: str, name: str = "", *, mark: str = "") -> Tenant:
        """A new one. `Invalid`: it cannot be called so; `Conflict`: there is one, or it is `me`. Again under the same `mark` (not
        empty): the one that was made."""
        if tenant == RESERVED:
            raise Conflict(f"{RESERVED!r} stands for everybody's own tenant in addresses: choose another id")
        if not is_tenant_id(tenant):
            raise Invalid(f"{tenant[:80]!r} cannot name a tenant: 1 to 40 lower-case letters, digits and '-'")
        secret, now = self._clock.random(32), self._clock.now()
        for _ in range(_TRIES):
            if (item := self._tables.get(ItemKey(_PARTITION, tenant))) is not None or tenant == DEFAULT_TENANT:
                return self._made_before(tenant, item, mark)
            number = self._next_number()
            data = {"number": number, "secret": secret.hex(), "name": name, "created_at": now, "mark": mark}
            record = Put(ItemKey(_PARTITION, tenant), data, Expect.ABSENT)
            claim = Put(ItemKey(_NUMBERS, _digits(number)), {"tenant": tenant}, Expect.ABSENT)
            try:
                self._tables.write([record, claim])
            except Conflict:  # somebody took the name or the number: look again
                continue
            return self._remembered(Tenant(tenant, number, secret, name, created_at=now))
        raise Conflict("tenants are being made by others all the time; try again")

    def disable(self, tenant: str) -> Tenant:
        """Refuse its calls, within seconds. `NotFound`; `Conflict`: `default` stays, operators sign in there."""
        if tenant == DEFAULT_TENANT:
            raise Conflict(f"the tenant {DEFAULT_TENANT} cannot be disabled: the installation's operators sign in there")
        return self._switch(tenant, disabled=True)

    def enable(self, tenant: str) -> Tenant:
        """Take its calls again. `NotFound`."""
        return self._switch(tenant, disabled=False)

    def _switch(self, tenant: str, *, disabled: bool) -> Tenant:
        for _ in range(_TRIES):
            self.read(tenant)
            item = self._tables.get(key := ItemKey(_PARTITION, tenant))
            if item is None:
                raise NotFound(f"there is no tenant {tenant!r}")
            data = {**item.data, "disabled": disabled}
            try:
                self._tables.write([Put(key, data, item.version)])
            except Conflict:  # somebody changed it since
                continue
            return self._remembered(_of(tenant, data))
        raise Conflict(f"the tenant {tenant} is being changed by others all the time; try again")

    def _made_before(self, tenant: str, item: Item | None, mark: str) -> Tenant:
        if item is None or not mark or item.data.get("mark") != mark:
            raise Conflict(f"there is a tenant {tenant!r} already")
        return _tenant(item)

    def _next_number(self) -> int:
        last = self._tables.query(_NUMBERS, limit=1, reverse=True).items
        number = int(last[0].key.sort) + 1 if last else 1
        if number > MAX_NUMBER:
            raise Conflict(f"all {MAX_NUMBER:,} numbers of tenants are taken")
        return number

    def _create_default(self) -> Tenant:
        secret, now = self._clock.random(32), self._clock.now()
        data = {"number": 0, "secret": secret.hex(), "created_at": now}
        try:
            self._tables.write([Put(ItemKey(_PARTITION, DEFAULT_TENANT), data, Expect.ABSENT)])
        except Conflict:  # another process was first: its secret is the one
            return self.read(DEFAULT_TENANT)
        return self._remembered(_of(DEFAULT_TENANT, data))

    def _remembered(self, tenant: Tenant) -> Tenant:
        self._recent.put(tenant.id, tenant, seconds=_REMEMBERED_S)
        return tenant


def _digits(number: int) -> str:
    """So that the order of text is that of numbers."""
    return f"{number:08}"


def _tenant(item: Item) -> Tenant:
    return _of(item.key.sort, item.data)


def _of(tenant: str, data: Mapping[str, Any]) -> Tenant:
    return Tenant(
        tenant,
        data["number"],
        bytes.fromhex(data["secret"]),
        data.get("name", ""),
        disabled=data.get("disabled", False),
        created_at=data.get("created_at"),
    )


LOCK_MS = 120_000


_TAKEN = "the same work is under way, or whoever did it died just now: try again in two minutes"


class TenantLock:
    """Somebody's."""

    def __init__(self, tables: Tables, clock: Clock, key: ItemKey) -> None:
        """`Conflict`: it is another's."""
        self._tables = tables
        self._clock = clock
        self._key = key
        item = tables.get(key)
        if item is not None and item.data["until"] > clock.now():
            raise Conflict(_TAKEN)
        self._set(clock.now() + LOCK_MS, Expect.ABSENT if item is None else item.version)

    def keep(self) -> None:
        """To be called every minute at least; often is harmless. `Conflict`: it was too late, and is another's."""
        now = self._clock.now()
        if self._until - now <= LOCK_MS * 2 // 3:
            self._set(now + LOCK_MS, self._version)

    def end(self) -> None:
        """Let the next one begin."""
        with suppress(Conflict):  # it had run out, and is another's
            self._set(0, self._version)

    def _set(self, until: int, expect: Expect | int) -> None:
        try:
            (self._version,) = self._tables.write([Put(self._key, {"until": until}, expect)])
        except Conflict as error:
            raise Conflict(_TAKEN) from error
        self._until = until


@contextmanager
def tenant_lock(tables: Tables, clock: Clock, *, tenant: str, work: str) -> Iterator[TenantLock]:
    """Do the tenant's `work` alone. `Conflict`: somebody else does."""
    taken = TenantLock(tables, clock, ItemKey(f"{tenant}#turns", work))
    try:
        yield taken
    finally:
        taken.end()
