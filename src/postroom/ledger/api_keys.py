"""API keys: found by id on every call, listed by tenant, with the time of their last use.

    #keys / id                 the key, found by id
    {tenant}#keys / id         the tenant's list
    {tenant}#key-uses / id     when it was last used

The first two are one atomic write, so a crash leaves both or neither. Neither ever changes: a cached look-up can be wrong in one
way only, that the key was revoked since. Each process writes a key's last use at most once a minute, and only if the key exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, Temporary
from postroom.ledger.collection import Collection, ListPage
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.access import ApiKey
from postroom.platform.ports.tables import Check, Delete, Expect, ItemKey, Put, Tables

USE_NOTED_EVERY_S = 60.0
_LOOK_UP = "#keys"
_NOTED = 100_000
_FIRST_VERSION = 1
_FORGET_USE_AFTER_MS = 400 * 86_400_000


class ApiKeyUse(NamedTuple):
    """A key and when it was last used, to the minute. None: not yet, or more than 400 days ago."""

    key: ApiKey
    last_used_at: Instant | None


_Uses = list[ApiKeyUse]


class ApiKeyRecords:
    """The API keys of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, ApiKey, "key")
        self._noted: TtlCache[str, bool] = TtlCache(clock, most=_NOTED)

    def create(self, key: ApiKey) -> ApiKey:
        """Store a new key. Repeating it (same id, same secret) returns the record. Raises `Conflict` if the id is taken."""
        try:
            self._records.create(_look_up(key.id), key, also=[self._records.put_of(_entry(key.tenant, key.id), key)])
        except Conflict:
            known = self.find(key.id)
            if known is None or (known.tenant, known.digest) != (key.tenant, key.digest):
                raise
            return known
        return key

    def find(self, id: str) -> ApiKey | None:  # noqa: A002
        """A key of any tenant, or None. One read."""
        return self._records.find(_look_up(id))

    def get(self, tenant: str, id: str) -> ApiKeyUse:  # noqa: A002
        """A key of the tenant. Raises `NotFound`."""
        key = self.find(id)
        if key is None or key.tenant != tenant:
            raise NotFound(f"there is no key {id}")
        return self._with_use(tenant, [key])[0]

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[ApiKeyUse]:
        """The tenant's keys by id. `limit`: 1 to 1,000."""
        page = self._records.page(f"{tenant}#keys", cursor=cursor, limit=limit)
        return ListPage(self._with_use(tenant, page.items), page.cursor)

    def revoke(self, tenant: str, id: str) -> ApiKey:  # noqa: A002
        """Delete a key of the tenant; calls with it are refused within seconds. Raises `NotFound`."""
        key = self.get(tenant, id).key
        self._tables.write([Delete(_look_up(id)), Delete(_entry(tenant, id)), Delete(_use(tenant, id))])
        return key

    def record_use(self, key: ApiKey) -> None:
        """Record that the key was used now. A failure of the store is ignored: no call fails for it."""
        if self._noted.get(key.id):
            return
        self._noted.put(key.id, value=True, seconds=USE_NOTED_EVERY_S)
        now = self._clock.now()
        use = Put(_use(key.tenant, key.id), {"at": now}, Expect.ANYTHING, Instant(now + _FORGET_USE_AFTER_MS))
        with suppress(Conflict, Temporary):
            self._tables.write([use, Check(_look_up(key.id), _FIRST_VERSION)])

    def _with_use(self, tenant: str, keys: Sequence[ApiKey]) -> _Uses:
        uses = self._tables.get_many([_use(tenant, key.id) for key in keys])
        found = [uses.get(_use(tenant, key.id)) for key in keys]
        return [ApiKeyUse(key, Instant(use.data["at"]) if use else None) for key, use in zip(keys, found, strict=True)]


def _look_up(id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_LOOK_UP, id)


def _entry(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(f"{tenant}#keys", id)


def _use(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(f"{tenant}#key-uses", id)
