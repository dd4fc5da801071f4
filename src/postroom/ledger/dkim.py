"""DKIM keys: by tenant and domain, their private parts sealed.

    {tenant}#dkim / domain           all keys of a tenant's domain, in one record
    #dkim-domains / domain/tenant    which domains have keys: for a rotation of the master key, and for `doctor`

The record and its line in the index are one atomic write: a crash leaves a key and the one it replaces both unchanged or both
changed. A private key is sealed for tenant, domain and selector, and opened only for composing (`signing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from postroom.errors import Conflict, Corrupt
from postroom.ledger.collection import iterate_items, write_retrying
from postroom.ledger.resealing import reseal_each
from postroom.model.dkim import Algorithm, DkimKey, DomainKeys, KeyStatus
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

_INDEX = "#dkim-domains"


class DkimPrivateKey(NamedTuple):
    """A key with its private part, which `repr` hides."""

    key: DkimKey
    private: bytes

    def __repr__(self) -> str:
        return f"PrivateKey({self.key.selector})"


class DkimKeys:
    """The DKIM keys of all tenants. Each change is one conditional write on the version that was read."""

    def __init__(self, tables: Tables, secrets: Secrets) -> None:
        self._tables = tables
        self._secrets = secrets

    def get(self, tenant: str, domain: str) -> DomainKeys:
        """The domain's keys; empty if it has none."""
        item = self._tables.get(_key(tenant, domain))
        return DomainKeys(tenant, domain) if item is None else _keys(tenant, item)

    def add(self, was: DomainKeys, made: Sequence[DkimPrivateKey]) -> DomainKeys:
        """Add keys. Raises `Conflict` if the domain's keys were changed since they were read."""
        new = {each.key.selector: self._sealed(was.tenant, was.domain, each) for each in made}
        return self._store(was, (*was.keys, *(each.key for each in made)), new)

    def change(self, was: DomainKeys, keys: tuple[DkimKey, ...]) -> DomainKeys:
        """Replace the keys; those missing from `keys` are deleted for good. Raises `Conflict` as `add`."""
        return self._store(was, keys, {})

    def signing(self, tenant: str, domains: Sequence[str]) -> tuple[str, list[DkimPrivateKey]] | None:
        """The first of the domains with active keys, and those keys, RSA first; None: there is none. Raises `Corrupt` or
        `Unavailable` if a key cannot be opened."""
        found = self._tables.get_many([_key(tenant, domain) for domain in domains])
        for domain in domains:
            item = found.get(_key(tenant, domain))
            active = [] if item is None else [key for key in _keys(tenant, item).keys if key.status is KeyStatus.ACTIVE]
            if item is not None and active:
                active.sort(key=lambda key: key.algorithm is not Algorithm.RSA)
                return domain, [DkimPrivateKey(key, self._opened(tenant, item, key.selector)) for key in active]
        return None

    def reseal(self) -> tuple[int, int]:
        """Seal every key under the newest master key: how many were resealed, and how many cannot be opened."""
        return reseal_each(_index(self._tables, ""), self._resealed)

    def _resealed(self, owner: tuple[str, str]) -> int:
        """Reseal a domain's keys; how many."""
        domain, tenant = owner

        def plan() -> tuple[Sequence[Write], int]:
            item = self._tables.get(_key(tenant, domain))
            seals = {} if item is None else _seals(item)
            old = [name for name, text in seals.items() if not self._secrets.is_current(text)]
            if item is None or not old:
                return [], 0
            new = {name: self._secrets.seal(_purpose(tenant, domain, name), self._opened(tenant, item, name)) for name in old}
            keys = [{**each, "sealed": new.get(each["selector"], each["sealed"])} for each in item.data["keys"]]
            return [Put(item.key, {"keys": keys}, item.version)], len(new)

        return write_retrying(self._tables, plan, f"the list of DKIM keys of {domain}")

    def _store(self, was: DomainKeys, keys: tuple[DkimKey, ...], sealed: Mapping[str, str]) -> DomainKeys:
        """`sealed`: the sealed private parts of new keys; the others' stay."""
        key, line = _key(was.tenant, was.domain), ItemKey(_INDEX, f"{was.domain}/{was.tenant}")
        if not keys:
            self._tables.write([Delete(key, was.version), Delete(line)])
            return DomainKeys(was.tenant, was.domain)
        item = self._tables.get(key)
        if (item.version if item else 0) != was.version:
            raise Conflict(f"the DKIM keys of {was.domain} were changed since: read them again")
        seals = {**(_seals(item) if item else {}), **sealed}
        data = {"keys": [{**msgspec.to_builtins(each), "sealed": seals[each.selector]} for each in keys]}
        version, _ = self._tables.write([Put(key, data, was.version or Expect.ABSENT), Put(line, {})])
        return replace(was, keys=keys, version=version)

    def _sealed(self, tenant: str, domain: str, made: DkimPrivateKey) -> str:
        return self._secrets.seal(_purpose(tenant, domain, made.key.selector), made.private)

    def _opened(self, tenant: str, item: Item, selector: str) -> bytes:
        return self._secrets.open(_purpose(tenant, item.key.sort, selector), _seals(item)[selector])


def keys_for_domain(tables: Tables, domain: str | None) -> Iterator[DomainKeys]:
    """All tenants' keys of a domain, or (None) of all domains by name. Public parts only."""
    for name, tenant in _index(tables, "" if domain is None else f"{domain}/"):
        item = tables.get(_key(tenant, name))
        if item is not None:
            yield _keys(tenant, item)


def _index(tables: Tables, prefix: str) -> Iterator[tuple[str, str]]:
    """Pairs of domain and tenant."""
    for item in iterate_items(tables, _INDEX, prefix=prefix):
        domain, _, tenant = item.key.sort.partition("/")
        yield domain, tenant


def _key(tenant: str, domain: str) -> ItemKey:
    return ItemKey(f"{tenant}#dkim", domain)


def _purpose(tenant: str, domain: str, selector: str) -> str:
    return f"dkim/{tenant}/{domain}/{selector}"


def _seals(item: Item) -> dict[str, str]:
    return {each["selector"]: each["sealed"] for each in item.data["keys"]}


def _keys(tenant: str, item: Item) -> DomainKeys:
    try:
        public: list[dict[str, Any]] = [{k: v for k, v in each.items() if k != "sealed"} for each in item.data["keys"]]
        return DomainKeys(tenant, item.key.sort, tuple(msgspec.convert(public, list[DkimKey])), item.version)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the DKIM keys of {item.key.sort} cannot be read: {error}") from error
