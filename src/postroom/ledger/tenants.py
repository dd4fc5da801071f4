"""Tenants and their secrets; and a lock for work that a tenant must not do twice at once.

    #tenants / id                the record, with the secret that recipient keys and link MACs are derived from
    #tenant-numbers / number     the tenant that owns the number
    {tenant}#turns / work        a lock, see `TenantLock`

A tenant and the claim of its number are one atomic write: a crash leaves both or neither. Claims are never deleted, so the number
in an old link never means another tenant. Of two concurrent claims of a number one wins; the other takes the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from postroom.clock import Clock
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.collection import ListPage, expect_of, write_retrying
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.tenant import DEFAULT_TENANT, MAX_NUMBER, Tenant, is_tenant_id
from postroom.platform.ports.tables import Expect, Item, ItemKey, Put, Tables, Write

RESERVED = "me"
"""Means the caller's own tenant in API paths, so no tenant can have this id."""
LOCK_MS = 120_000
_PARTITION = "#tenants"
_NUMBERS = "#tenant-numbers"
_CACHED_S = 5.0
_CACHED = 10_000
_LOCKED = "the same work is under way, or the process that did it died just now: try again in two minutes"


class Tenants:
    """All tenants. The tenant `default` is created when it is first read."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._cache: TtlCache[str, Tenant] = TtlCache(clock, most=_CACHED)

    def get(self, tenant: str) -> Tenant:
        """The tenant, up to 5 seconds old (number and secret never change). Raises `NotFound`."""
        return self._cache.get(tenant) or self.read(tenant)

    def read(self, tenant: str) -> Tenant:
        """The tenant as stored now. Raises `NotFound`."""
        item = self._tables.get(ItemKey(_PARTITION, tenant)) if is_tenant_id(tenant) else None
        if item is None and tenant != DEFAULT_TENANT:
            raise NotFound(f"there is no tenant {tenant!r}")
        return self._create_default() if item is None else self._cached(_decode(item.key.sort, item.data))

    def by_number(self, number: int) -> Tenant:
        """The tenant with the number that a token carries. Raises `NotFound`."""
        if number == 0:
            return self.get(DEFAULT_TENANT)
        item = self._tables.get(ItemKey(_NUMBERS, _digits(number)))
        if item is None:
            raise NotFound(f"no tenant has the number {number}")
        return self.get(item.data["tenant"])

    def list(self, *, cursor: str | None = None, limit: int = 100) -> ListPage[Tenant]:
        """All tenants by id. `limit`: 1 to 1,000."""
        self.get(DEFAULT_TENANT)
        page = self._tables.query(_PARTITION, cursor=cursor, limit=limit)
        return ListPage([_decode(item.key.sort, item.data) for item in page.items], page.cursor)

    def create(self, tenant: str, name: str = "", *, mark: str = "") -> Tenant:
        """Create a tenant. Repeating the call with the same `mark` (not empty) returns the existing one.

        Raises `Invalid` if the id is malformed, `Conflict` if it is taken or reserved.
        """
        if tenant == RESERVED:
            raise Conflict(f"{RESERVED!r} means the caller's own tenant in API paths: choose another id")
        if not is_tenant_id(tenant):
            raise Invalid(f"{tenant[:80]!r} cannot name a tenant: 1 to 40 lower-case letters, digits and '-'")
        secret, now = self._clock.random(32), self._clock.now()

        def plan() -> tuple[Sequence[Write], Tenant]:
            if (item := self._tables.get(ItemKey(_PARTITION, tenant))) is not None or tenant == DEFAULT_TENANT:
                return [], _made_before(tenant, item, mark)
            number = self._next_number()
            data = {"number": number, "secret": secret.hex(), "name": name, "created_at": now, "mark": mark}
            record = Put(ItemKey(_PARTITION, tenant), data, Expect.ABSENT)
            claim = Put(ItemKey(_NUMBERS, _digits(number)), {"tenant": tenant}, Expect.ABSENT)
            return [record, claim], Tenant(tenant, number, secret, name, created_at=now)

        return self._cached(write_retrying(self._tables, plan, "the list of tenants"))

    def disable(self, tenant: str) -> Tenant:
        """Refuse the tenant's calls, within seconds. Raises `NotFound`, and `Conflict` for `default`: operators sign in there."""
        if tenant == DEFAULT_TENANT:
            raise Conflict(f"the tenant {DEFAULT_TENANT} cannot be disabled: the installation's operators sign in there")
        return self._switch(tenant, disabled=True)

    def enable(self, tenant: str) -> Tenant:
        """Accept the tenant's calls again. Raises `NotFound`."""
        return self._switch(tenant, disabled=False)

    def _switch(self, tenant: str, *, disabled: bool) -> Tenant:
        def plan() -> tuple[Sequence[Write], Tenant]:
            self.read(tenant)
            item = self._tables.get(key := ItemKey(_PARTITION, tenant))
            if item is None:
                raise NotFound(f"there is no tenant {tenant!r}")
            data = {**item.data, "disabled": disabled}
            return [Put(key, data, item.version)], _decode(tenant, data)

        return self._cached(write_retrying(self._tables, plan, f"the tenant {tenant}"))

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
        except Conflict:  # another process created it: its secret counts
            return self.read(DEFAULT_TENANT)
        return self._cached(_decode(DEFAULT_TENANT, data))

    def _cached(self, tenant: Tenant) -> Tenant:
        self._cache.put(tenant.id, tenant, seconds=_CACHED_S)
        return tenant


class TenantLock:
    """A lock on one kind of a tenant's work, across processes.

    A process that is killed with the lock blocks others for two minutes at most. The record stays, unlocked, when the work ends:
    its version only rises, so a process that wakes up late cannot take an expired lock for the current one.
    """

    def __init__(self, tables: Tables, clock: Clock, key: ItemKey) -> None:
        """Take the lock. Raises `Conflict` if another process holds it."""
        self._tables = tables
        self._clock = clock
        self._key = key
        item = tables.get(key)
        if item is not None and item.data["until"] > clock.now():
            raise Conflict(_LOCKED)
        self._set(clock.now() + LOCK_MS, expect_of(item))

    def keep(self) -> None:
        """Extend the lock; call it at least once a minute. Raises `Conflict` if it expired and another process took it."""
        now = self._clock.now()
        if self._until - now <= LOCK_MS * 2 // 3:
            self._set(now + LOCK_MS, self._version)

    def release(self) -> None:
        """Release the lock, unless it expired."""
        with suppress(Conflict):  # it expired, and another process holds it
            self._set(0, self._version)

    def _set(self, until: int, expect: Expect | int) -> None:
        try:
            (self._version,) = self._tables.write([Put(self._key, {"until": until}, expect)])
        except Conflict as error:
            raise Conflict(_LOCKED) from error
        self._until = until


@contextmanager
def tenant_lock(tables: Tables, clock: Clock, *, tenant: str, work: str) -> Iterator[TenantLock]:
    """Hold the lock on a tenant's `work`. Raises `Conflict` if another process holds it."""
    lock = TenantLock(tables, clock, ItemKey(f"{tenant}#turns", work))
    try:
        yield lock
    finally:
        lock.release()


def _made_before(tenant: str, item: Item | None, mark: str) -> Tenant:
    if item is None or not mark or item.data.get("mark") != mark:
        raise Conflict(f"there is a tenant {tenant!r} already")
    return _decode(item.key.sort, item.data)


def _digits(number: int) -> str:
    """Padded, so that text sorts as numbers do."""
    return f"{number:08}"


def _decode(tenant: str, data: Mapping[str, Any]) -> Tenant:
    return Tenant(
        tenant,
        data["number"],
        bytes.fromhex(data["secret"]),
        data.get("name", ""),
        disabled=data.get("disabled", False),
        created_at=data.get("created_at"),
    )
