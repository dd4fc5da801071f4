"""DKIM keys: created, published, verified, rotated, removed.

A key signs once its DNS record was found, and keeps signing if the record disappears: a foreign DNS must not stop a campaign, and
`doctor` reports it. Creating a pair again under the same stem finds the existing pair.
"""

from __future__ import annotations

from dataclasses import replace

from postroom.clock import Clock
from postroom.delivery.dkim import generate_key
from postroom.errors import Conflict, NotFound, Unavailable
from postroom.ledger.dkim import DkimKeys, DkimPrivateKey
from postroom.model import dkim, ids
from postroom.model.dkim import Algorithm, DkimKey, DomainKeys, KeyStatus
from postroom.model.sender import sender_name
from postroom.services.outbound_slots import OutboundSlots
from postroom.services.senders import TxtLookup

_MARK = 4
"""Characters of the random part. A reused selector would be a second key under the record of one that signs."""


class DkimService:
    """`domain` in any spelling, or an address; otherwise `Invalid` is raised."""

    def __init__(self, keys: DkimKeys, dns: TxtLookup, clock: Clock) -> None:
        self._keys = keys
        self._dns = dns
        self._clock = clock
        self._slots = OutboundSlots("DKIM key")

    def new_stem(self) -> str:
        """A new prefix for selectors."""
        return dkim.selector_stem(self._clock.now(), ids.encode(int.from_bytes(self._clock.random(3), "big") >> 4, _MARK))

    def keys(self, tenant: str, domain: str) -> DomainKeys:
        """All keys, oldest first; empty if there are none."""
        return self._keys.get(tenant, _domain(domain))

    def make(self, tenant: str, domain: str, stem: str, *, ed25519: bool) -> list[DkimKey]:
        """Create keys that do not sign yet: RSA, and Ed25519 if asked. Idempotent. Raises `Conflict` if there are too many."""
        was = self.keys(tenant, domain)
        algorithms = [Algorithm.RSA, Algorithm.ED25519] if ed25519 else [Algorithm.RSA]
        selectors = [dkim.selector_for(stem, algorithm, was.domain) for algorithm in algorithms]
        there = [key for key in was.keys if key.selector in selectors]
        if there:
            return there
        was.check_room(len(selectors))
        pairs = zip(selectors, algorithms, strict=True)
        made = [self._made(selector, algorithm) for selector, algorithm in pairs]
        self._keys.add(was, made)
        return [each.key for each in made]

    def add(self, tenant: str, domain: str, *, ed25519: bool) -> list[DkimKey]:
        """Create a domain's first keys. Raises `Conflict` if it has some."""
        was = self.keys(tenant, domain)
        if was.keys:
            raise Conflict(f"{was.domain} has DKIM keys already: `postroom sender dkim rotate {was.domain}` replaces them")
        return self.make(tenant, was.domain, self.new_stem(), ed25519=ed25519)

    def rotate(self, tenant: str, domain: str, *, ed25519: bool | None = None) -> list[DkimKey]:
        """Create keys that replace the signing ones once verified. Raises `NotFound` if there are none."""
        was = self.keys(tenant, domain)
        if not was.keys:
            raise NotFound(f"{was.domain} has no DKIM key yet: `postroom sender dkim add {was.domain}` makes one")
        return self.renew(tenant, was.domain, self.new_stem(), ed25519=ed25519)

    def renew(self, tenant: str, domain: str, stem: str, *, ed25519: bool | None) -> list[DkimKey]:
        """As `make`, whether or not there are keys. `ed25519` None: if the domain has one in use."""
        if ed25519 is None:
            kept = (key for key in self.keys(tenant, domain).keys if key.status is not KeyStatus.RETIRED)
            ed25519 = any(key.algorithm is Algorithm.ED25519 for key in kept)
        return self.make(tenant, domain, stem, ed25519=ed25519)

    def verify(self, tenant: str, domain: str, selector: str) -> DkimKey:
        """Query the DNS now and record the result. A waiting key that is found starts to sign.

        Raises `NotFound`, or `Conflict` if too many DNS checks are running or the keys were changed."""
        was = self.keys(tenant, domain)
        key = was.key(selector)
        name = dkim.record_name(selector, was.domain)
        try:
            with self._slots.slot(tenant):
                finding = dkim.record_mismatch(key, name, self._dns.txt(name))
        except Unavailable as error:
            return self._changed(was, replace(key, checked_at=self._clock.now(), finding=f"{error}; try again later"))
        checked = replace(key, checked_at=self._clock.now(), finding=finding, unchecked=key.unchecked and bool(finding))
        return self._changed(was, checked if finding else self._activated(checked))

    def trust(self, tenant: str, domain: str, selector: str) -> DkimKey:
        """Let a key sign without a DNS check. Raises `NotFound`."""
        was = self.keys(tenant, domain)
        key = was.key(selector)
        if key.status is not KeyStatus.WAITING:
            return key
        return self._changed(was, replace(self._activated(key), unchecked=True, finding=""))

    def remove(self, tenant: str, domain: str, selector: str) -> DkimKey:
        """Delete a key for good: it no longer signs. Its DNS record is useless once its mail has arrived. Raises `NotFound`."""
        was = self.keys(tenant, domain)
        key = was.key(selector)
        self._keys.change(was, tuple(each for each in was.keys if each is not key))
        return key

    def _made(self, selector: str, algorithm: Algorithm) -> DkimPrivateKey:
        made = generate_key(algorithm)
        return DkimPrivateKey(DkimKey(selector, algorithm, made.public, self._clock.now()), made.private)

    def _activated(self, key: DkimKey) -> DkimKey:
        """The key, signing; a retired key stays retired."""
        if key.status is not KeyStatus.WAITING:
            return key
        return replace(key, status=KeyStatus.ACTIVE, active_at=self._clock.now())

    def _changed(self, was: DomainKeys, key: DkimKey) -> DkimKey:
        self._keys.change(was, was.changed(key.selector, key))
        return key


def _domain(text: str) -> str:
    return sender_name(text).rpartition("@")[2]
