"""API keys as people use them: made with no more power than their maker has, shown once, revoked.

A key that is limited to some services makes keys for those only, and one that expires none that outlives it: what was lent stays
lent.
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
    """A new key, and its text: nobody can show that again."""

    key: ApiKey
    text: str


class ApiKeyService:
    """Of the caller's own tenant."""

    def __init__(self, keys: ApiKeyRecords, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def new_id(self) -> str:
        """An id nobody has used; `create` is what claims it."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def new_secret(self) -> bytes:
        """What only the key's text holds."""
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
        """A new one, good for `days` (None: until it is revoked). Again with the same id and secret: the one there is. `Denied`:
        more than the caller has."""
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
        """One; `NotFound`."""
        return self._keys.get(who.tenant, id)

    def list(self, who: Principal, *, cursor: str | None = None, limit: int = 100) -> ListPage[ApiKeyUse]:
        """Oldest first; `limit` 1 to 1,000."""
        return self._keys.list(who.tenant, cursor=cursor, limit=limit)

    def revoke(self, who: Principal, id: str) -> ApiKey:  # noqa: A002
        """Calls with it are refused within seconds. `NotFound`."""
        return self._keys.revoke(who.tenant, id)

    def _check(self, who: Principal, role: Role, scopes: AbstractSet[str] | None) -> None:
        if not who.role.includes(role):
            raise Denied(f"{who.name} is {who.role}: the key would be {role}")
        if who.scopes is not None and (scopes is None or not scopes <= who.scopes):
            raise Denied(f"{who.name} is for {', '.join(sorted(who.scopes))} only: so must be the keys that it makes")
