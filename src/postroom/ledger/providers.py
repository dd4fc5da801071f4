"""Mail providers: a tenant's own, shared ones, and the default, which is the setting POSTROOM_MAIL.

    {tenant}#providers / name     a tenant's own
    #providers / name             shared by all tenants
    #provider-seals / id          providers with a sealed password, for a rotation of the master key

A tenant's own provider hides a shared one of the same name. A record and its line among the seals are one atomic write: a crash
leaves both or neither. A password is sealed for tenant and name, and opened only for sending (`credentials`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Invalid, NotFound, QuotaExceeded
from postroom.ledger.collection import iterate_items
from postroom.ledger.resealing import reseal_each, reseal_fields
from postroom.model.provider import (
    DEFAULT_PROVIDER,
    MessageStream,
    Provider,
    UsageLimits,
    WarmUp,
    check_provider_name,
    with_password,
    without_password,
)
from postroom.platform.ports.rates import RateLimit
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

MAX_PROVIDERS = 100
"""Providers of one tenant, and shared ones: they are listed without pages."""
_SEALS = "#provider-seals"
_EVERY_STREAM = frozenset(MessageStream)


class ProviderCredentials(NamedTuple):
    """How to reach a provider. `repr` hides the password."""

    id: str
    """Unique in the installation: senders with the same id share a rate limit."""
    url: str
    """The URL with its password."""
    limit: RateLimit
    connections: int | None
    """Connections of one process at most; None: as the URL says."""
    trusted: bool
    """Whether an operator wrote the URL: it may then point into a private network."""

    def __repr__(self) -> str:
        return f"ProviderMeans({self.id})"


class ProviderSpec(NamedTuple):
    """What a caller chooses of a provider. `repr` hides the password."""

    url: str
    """The URL, with or without a password."""
    use: UsageLimits = UsageLimits()
    streams: frozenset[MessageStream] = _EVERY_STREAM
    trusted: bool = False
    """Whether an operator wrote the URL."""

    def __repr__(self) -> str:
        return f"Change({without_password(self.url)[0]})"


class Providers:
    """The providers of all tenants."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock, *, default_url: str) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock
        self._default_url = default_url

    def create(self, tenant: str | None, name: str, change: ProviderSpec, *, mark: str = "") -> Provider:
        """Create a provider; `tenant` None: a shared one. Repeating the call with the same `mark` (not empty) returns the
        existing one. Raises `Conflict` if the name is taken or there are `MAX_PROVIDERS`."""
        check_provider_name(name)
        if (item := self._tables.get(_key(tenant, name))) is not None:
            return self._made_before(item, tenant, mark)
        if len(self._of(tenant)) >= MAX_PROVIDERS:
            raise QuotaExceeded(f"there are {MAX_PROVIDERS} providers already, the most a tenant may have")
        data = {**self._data(tenant, name, change, was=None), "created_at": self._clock.now(), "mark": mark}
        try:
            return self._store(tenant, name, data, expect=Expect.ABSENT)
        except Conflict:
            if (item := self._tables.get(_key(tenant, name))) is None:
                raise
            return self._made_before(item, tenant, mark)

    def change(self, was: Provider, change: ProviderSpec) -> Provider:
        """Replace a provider as it was read. A URL without a password keeps the stored password only if the URL is the same: a
        password is never sent to another host. A warm-up without a first day continues the stored one. Raises `Conflict` if it
        was changed since, `NotFound`, `Invalid`."""
        item = self._item(was.tenant, was.name)
        url, password = without_password(change.url)
        data = self._data(was.tenant, was.name, change, was=was.use.warm_up)
        if password is None and item.data["sealed"] is not None and "@" in url:
            if url != item.data["url"]:
                raise Invalid("another URL needs its password again: the stored one is not carried to another server")
            data["sealed"] = item.data["sealed"]
        kept = {"created_at": item.data["created_at"], "mark": item.data["mark"]}
        return self._store(was.tenant, was.name, data | kept, expect=was.version)

    def delete(self, was: Provider) -> None:
        """Delete a provider as it was read. Raises `Conflict` if it was changed since."""
        seal = Delete(ItemKey(_SEALS, was.id))
        self._tables.write([Delete(_key(was.tenant, was.name), was.version), seal])

    def get(self, tenant: str | None, name: str) -> Provider:
        """The provider that a tenant means by the name: its own, else a shared one, else the default. `tenant` None: a shared
        one. Raises `NotFound`."""
        return self.default() if name == DEFAULT_PROVIDER else self._provider(*self._found(tenant, name))

    def default(self) -> Provider:
        """The default provider, from the setting."""
        url, password = without_password(self._default_url)
        return Provider(DEFAULT_PROVIDER, url, password is not None, UsageLimits(), _EVERY_STREAM, None, True, None, 1)

    def list(self, tenant: str | None) -> list[Provider]:
        """All providers that the tenant may use: its own, then shared ones, then the default. `tenant` None: no own ones."""
        own = [] if tenant is None else self._of(tenant)
        names = {provider.name for provider in own}
        shared = [provider for provider in self._of(None) if provider.name not in names]
        return [*own, *shared, self.default()]

    def credentials(self, tenant: str | None, name: str) -> ProviderCredentials:
        """How to reach the provider. Raises `NotFound`; `Corrupt` or `Unavailable` if its password cannot be opened."""
        if name == DEFAULT_PROVIDER:
            return ProviderCredentials(DEFAULT_PROVIDER, self._default_url, RateLimit(), None, trusted=True)
        owner, item = self._found(tenant, name)
        provider, sealed = self._provider(owner, item), item.data["sealed"]
        password = None if sealed is None else self._secrets.open(_purpose(owner, name), sealed).decode()
        limit = RateLimit(provider.use.per_second, provider.today)
        url = with_password(provider.url, password)
        return ProviderCredentials(provider.id, url, limit, provider.use.connections, trusted=provider.trusted)

    def for_campaign(self, tenant: str, name: str) -> Provider:
        """A provider that may send campaigns. Raises `NotFound`, and `Invalid` if it may not."""
        provider = self.get(tenant, name)
        if MessageStream.BULK not in provider.streams:
            raise Invalid(f"the provider {name} carries single messages only, no campaigns")
        return provider

    def for_single(self, tenant: str) -> str:
        """The name of the provider for a tenant's transactional messages: its first own one with that stream, else the first
        shared one with only that stream, else the default."""
        for provider in self.list(tenant):
            if MessageStream.TRANSACTIONAL in provider.streams and (
                not provider.shared or MessageStream.BULK not in provider.streams
            ):
                return provider.name
        return DEFAULT_PROVIDER

    def reseal(self) -> tuple[int, int]:
        """Seal every password under the newest master key: how many were resealed, and how many cannot be opened."""
        return reseal_each(self._sealed(), self._resealed)

    def _resealed(self, owner: tuple[str | None, str]) -> bool:
        return reseal_fields(self._tables, self._secrets, _key(*owner), purpose=_purpose(*owner), fields=("sealed",))

    def _sealed(self) -> Iterator[tuple[str | None, str]]:
        for item in iterate_items(self._tables, _SEALS):
            tenant, _, name = item.key.sort.partition("/")
            yield tenant or None, name

    def id_of(self, tenant: str, name: str | None) -> str:
        """The id of the provider that a tenant means by `name` (None: for its transactional messages). Falls back to the name if
        it was deleted or is a URL."""
        name = self.for_single(tenant) if name is None else name
        if ":" in name:
            return without_password(name)[0]
        try:
            return self.get(tenant, name).id
        except NotFound:
            return f"{tenant}/{name}"

    def _data(self, tenant: str | None, name: str, change: ProviderSpec, *, was: WarmUp | None) -> dict[str, Any]:
        url, password = without_password(change.url)
        sealed = None if password is None else self._secrets.seal(_purpose(tenant, name), password.encode())
        streams = sorted(stream.value for stream in change.streams)
        warm_up = change.use.warm_up and change.use.warm_up.checked().begun(self._clock.now(), was)._asdict()
        use = change.use._asdict() | {"warm_up": warm_up}
        return {"url": url, "sealed": sealed, "use": use, "streams": streams, "trusted": change.trusted}

    def _store(self, tenant: str | None, name: str, data: dict[str, Any], *, expect: Expect | int) -> Provider:
        seal = ItemKey(_SEALS, f"{tenant or ''}/{name}")
        line: Write = Delete(seal) if data["sealed"] is None else Put(seal, {})
        version, _ = self._tables.write([Put(_key(tenant, name), data, expect), line])
        return self._provider(tenant, Item(_key(tenant, name), data, version))

    def _of(self, tenant: str | None) -> Sequence[Provider]:
        return [self._provider(tenant, item) for item in iterate_items(self._tables, _partition(tenant))]

    def _made_before(self, item: Item, tenant: str | None, mark: str) -> Provider:
        if not mark or item.data["mark"] != mark:
            raise Conflict(f"there is a provider {item.key.sort} already")
        return self._provider(tenant, item)

    def _provider(self, tenant: str | None, item: Item) -> Provider:
        data = item.data
        use = _use(data["use"])
        return Provider(
            name=item.key.sort,
            url=data["url"],
            has_password=data["sealed"] is not None,
            use=use,
            streams=frozenset(MessageStream(stream) for stream in data["streams"]),
            tenant=tenant,
            trusted=data["trusted"],
            created_at=Instant(data["created_at"]),
            version=item.version,
            today=use.today(self._clock.now()),
        )

    def _found(self, tenant: str | None, name: str) -> tuple[str | None, Item]:
        check_provider_name(name)
        for owner in dict.fromkeys((tenant, None)):
            if (item := self._tables.get(_key(owner, name))) is not None:
                return owner, item
        raise NotFound(f"there is no provider {name}")

    def _item(self, tenant: str | None, name: str) -> Item:
        item = self._tables.get(_key(tenant, name))
        if item is None:
            raise NotFound(f"there is no provider {name}")
        return item


def _partition(tenant: str | None) -> str:
    return f"{tenant or ''}#providers"


def _key(tenant: str | None, name: str) -> ItemKey:
    return ItemKey(_partition(tenant), name)


def _purpose(tenant: str | None, name: str) -> str:
    return f"provider/{tenant or ''}/{name}"


def _use(data: dict[str, Any]) -> UsageLimits:
    warm_up = data.get("warm_up")
    return UsageLimits(**{**data, "warm_up": warm_up and WarmUp(**warm_up)})
