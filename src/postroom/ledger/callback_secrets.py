"""The secrets that callbacks are signed with, sealed: each endpoint's, and the tenant's for its campaigns' own callbacks.

    {tenant}#callback-secrets / endpoint or `campaigns`     secret, and for a day after a rotation the one before
    #callback-seals / {tenant}/{endpoint or `campaigns`}    which there are, for a rotation of the master key

A secret and its line among the seals are one write, so a crash leaves both or neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound
from postroom.ledger.pages import every
from postroom.ledger.resealing import reseal_each, reseal_fields
from postroom.model.callback import OLD_SECRET_MS, SECRET_BYTES
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

CAMPAIGNS: Final = "campaigns"
"""The name of the tenant's secret for what a campaign's `callback_url` is told."""
_SEALS: Final = "#callback-seals"
_TRIES: Final = 10


class CallbackSecrets:
    """Of all tenants."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock

    def writes(self, tenant: str, name: str, secret: bytes) -> list[Write]:
        """What stores a first secret, for the caller's own write."""
        data = {"secret": self._sealed(tenant, name, secret)}
        return [Put(_key(tenant, name), data, Expect.ABSENT), Put(_seal(tenant, name), {})]

    def deletes(self, tenant: str, name: str) -> list[Write]:
        """What forgets it."""
        return [Delete(_key(tenant, name)), Delete(_seal(tenant, name))]

    def of_campaigns(self, tenant: str) -> bytes:
        """The tenant's own, made when it is first asked for."""
        if self._tables.get(_key(tenant, CAMPAIGNS)) is None:
            with suppress(Conflict):  # somebody else was first: theirs is the one
                self._tables.write(self.writes(tenant, CAMPAIGNS, self._clock.random(SECRET_BYTES)))
        return self.get(tenant, CAMPAIGNS)[0]

    def get(self, tenant: str, name: str) -> list[bytes]:
        """Which to sign with now, the newest first. `NotFound`; `Corrupt`, `Unavailable`: they cannot be opened."""
        data = self._item(tenant, name).data
        texts = [data["secret"]]
        if data.get("old_until", 0) > self._clock.now():
            texts.append(data["old"])
        return [self._secrets.open(_purpose(tenant, name), text) for text in texts]

    def rotate(self, tenant: str, name: str, secret: bytes) -> None:
        """Sign with this one from now on, and with the one before for a day. Again: harmless. `NotFound`."""
        for _ in range(_TRIES):
            item = self._item(tenant, name)
            if self._secrets.open(_purpose(tenant, name), item.data["secret"]) == secret:
                return
            old_until = Instant(self._clock.now() + OLD_SECRET_MS)
            data = {"secret": self._sealed(tenant, name, secret), "old": item.data["secret"], "old_until": old_until}
            with suppress(Conflict):  # somebody changed it since: look again
                self._tables.write([Put(item.key, data, item.version)])
                return
        raise Conflict("the secret is being changed by others all the time; try again")

    def reseal(self) -> tuple[int, int]:
        """Seal every secret under the newest master key: how many were, and how many cannot be."""
        return reseal_each(self._sealed_ones(), self._resealed)

    def _resealed(self, owner: tuple[str, str]) -> bool:
        return reseal_fields(self._tables, self._secrets, _key(*owner), purpose=_purpose(*owner), fields=("secret", "old"))

    def _sealed_ones(self) -> Iterator[tuple[str, str]]:
        for item in every(self._tables, _SEALS):
            tenant, _, name = item.key.sort.partition("/")
            yield tenant, name

    def _item(self, tenant: str, name: str) -> Item:
        item = self._tables.get(_key(tenant, name))
        if item is None:
            raise NotFound(f"there is no secret of the callback {name}")
        return item

    def _sealed(self, tenant: str, name: str, secret: bytes) -> str:
        return self._secrets.seal(_purpose(tenant, name), secret)


def _key(tenant: str, name: str) -> ItemKey:
    return ItemKey(f"{tenant}#callback-secrets", name)


def _seal(tenant: str, name: str) -> ItemKey:
    return ItemKey(_SEALS, f"{tenant}/{name}")


def _purpose(tenant: str, name: str) -> str:
    return f"callback/{tenant}/{name}"
