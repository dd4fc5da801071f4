"""API keys: found by id on every call, listed by tenant, and when each was last used.

Two items for each, in one atomic write, so a crash leaves both or neither: one that a call finds by the key's id, one in the
tenant's list. Neither ever changes, so a look-up that is some seconds old is wrong in one way only: the key was revoked since.
When a key was last used is an item of its own, written by each process at most once a minute, and only while the key is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, NotFound, Temporary
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.access import ApiKey
from postroom.platform.ports.tables import Check, Delete, Expect, Item, ItemKey, Put, Tables

USE_NOTED_EVERY_S = 60.0
_LOOK_UP = "#keys"
_NOTED = 100_000
_FIRST_VERSION = 1
_FORGET_USE_AFTER_MS = 400 * 86_400_000


class ApiKeyUse(NamedTuple):
    """A key and when it was last used, to the minute; None: not yet, or over a year ago."""

    key: ApiKey
    last_used_at: Instant | None


_UsedKeys = list[ApiKeyUse]


class KeyPage(NamedTuple):
    """Part of a list, oldest first. `cursor` asks for the next part."""

    keys: list[ApiKeyUse]
    cursor: str | None


class ApiKeyRecords:
    """Of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._noted: TtlCache[str, bool] = TtlCache(clock, most=_NOTED)

    def create(self, key: ApiKey) -> ApiKey:
        """Store a new one; again, the same secret under the same id: the one there is. `Conflict`: the id is another's."""
        data: dict[str, Any] = msgspec.to_builtins(key)
        try:
            self._tables.write([Put(_look_up(key.id), data, Expect.ABSENT), Put(_entry(key.tenant, key.id), data)])
        except Conflict:
            known = self.find(key.id)
            if known is None or (known.tenant, known.digest) != (key.tenant, key.digest):
                raise
            return known
        return key

    def find(self, id: str) -> ApiKey | None:  # noqa: A002
        """Whichever tenant's, or None. One read."""
        item = self._tables.get(_look_up(id))
        return None if item is None else _key(item)

    def get(self, tenant: str, id: str) -> ApiKeyUse:  # noqa: A002
        """One of the tenant's; `NotFound`."""
        key = self.find(id)
        if key is None or key.tenant != tenant:
            raise NotFound(f"there is no key {id}")
        return self._with_use(tenant, [key])[0]

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> KeyPage:
        """The tenant's; `limit` 1 to 1,000."""
        page = self._tables.query(f"{tenant}#keys", cursor=cursor, limit=limit)
        return KeyPage(self._with_use(tenant, [_key(item) for item in page.items]), page.cursor)

    def revoke(self, tenant: str, id: str) -> ApiKey:  # noqa: A002
        """Delete one of the tenant's; calls with it are refused within seconds. `NotFound`."""
        key = self.get(tenant, id).key
        self._tables.write([Delete(_look_up(id)), Delete(_entry(tenant, id)), Delete(_use(tenant, id))])
        return key

    def used(self, key: ApiKey) -> None:
        """Note that it was used just now. A note that cannot be kept is let go: no call fails for it."""
        if self._noted.get(key.id):
            return
        self._noted.put(key.id, value=True, seconds=USE_NOTED_EVERY_S)
        now = self._clock.now()
        note = Put(_use(key.tenant, key.id), {"at": now}, expires_at=Instant(now + _FORGET_USE_AFTER_MS))
        with suppress(Conflict, Temporary):
            self._tables.write([note, Check(_look_up(key.id), _FIRST_VERSION)])

    def _with_use(self, tenant: str, keys: Sequence[ApiKey]) -> _UsedKeys:
        uses = self._tables.get_many([_use(tenant, key.id) for key in keys])
        found = [uses.get(_use(tenant, key.id)) for key in keys]
        return [ApiKeyUse(key, Instant(use.data["at"]) if use else None) for key, use in zip(keys, found, strict=True)]


def _look_up(id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_LOOK_UP, id)


def _entry(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(f"{tenant}#keys", id)


def _use(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(f"{tenant}#key-uses", id)


def _key(item: Item) -> ApiKey:
    try:
        return msgspec.convert(item.data, ApiKey)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the key {item.key.sort} cannot be read: {error}") from error
