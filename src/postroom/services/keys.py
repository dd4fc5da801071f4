"""API keys: created with at most the creator's rights, shown once, revoked.

A key with scopes can only create keys within them, and an expiring key none that outlives it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Denied
from postroom.ledger.api_keys import ApiKeyRecords, ApiKeyUse
from postroom.ledger.collection import ListPage
from postroom.model import access, ids
from postroom.model.access import ApiKey, Principal, Role

MAX_DAYS = 3_660
_DAY_MS = 86_400_000


class MadeKey(NamedTuple):
    """A new key and its secret text, which is never shown again."""

    key: ApiKey
    text: str


class ApiKeyService:
    """The caller's own tenant."""

    def __init__(self, keys: ApiKeyRecords, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def new_id(self) -> str:
        """An unused id; `create` claims it."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def new_secret(self) -> bytes:
        """The secret part of a key."""
        return self._clock.random(access.SECRET_BYTES)

    def create(
        self,
        who: Principal,
        name: str,
        *,
        role: Role,
        scopes: AbstractSet[str] | None = None,
        days: int | None = None,
        id: str | None = None,  # noqa: A002
        secret: bytes | None = None,
    ) -> MadeKey:
        """Create a key valid for `days` (None: until revoked). With the same id and secret again, returns the existing one.

        Raises `Denied` for more rights than the caller has."""
        self._check(who, role, scopes)
        id, now = id or self.new_id(), self._clock.now()  # noqa: A001
        expires_at = None if days is None else Instant(now + days * _DAY_MS)
        if who.ends_at is not None and (expires_at is None or expires_at > who.ends_at):
            raise Denied(f"{who.name} expires: so must the keys that it makes, no later than itself")
        text = access.compose_key(id, secret or self.new_secret())
        key = ApiKey(
            id,
            who.tenant,
            name,
            role,
            access.key_digest(text),
            created_at=now,
            created_by=who.name,
            scopes=None if scopes is None else frozenset(map(str, scopes)),
            expires_at=expires_at,
        )
        return MadeKey(self._keys.create(key), text)

    def get(self, who: Principal, id: str) -> ApiKeyUse:  # noqa: A002
        """Raises `NotFound`."""
        return self._keys.get(who.tenant, id)

    def list(self, who: Principal, *, cursor: str | None = None, limit: int = 100) -> ListPage[ApiKeyUse]:
        """Keys, oldest first; `limit` 1 to 1,000."""
        return self._keys.list(who.tenant, cursor=cursor, limit=limit)

    def revoke(self, who: Principal, id: str) -> ApiKey:  # noqa: A002
        """Revoke a key: calls are refused within seconds. Raises `NotFound`."""
        return self._keys.revoke(who.tenant, id)

    def _check(self, who: Principal, role: Role, scopes: AbstractSet[str] | None) -> None:
        if not who.role.includes(role):
            raise Denied(f"{who.name} is {who.role}: the key would be {role}")
        if who.scopes is not None and (scopes is None or not scopes <= who.scopes):
            raise Denied(f"{who.name} is for {', '.join(sorted(who.scopes))} only: so must be the keys that it makes")
