"""DKIM keys as people use them: made, published, verified, replaced, removed.

A key signs from the moment its record was seen in the DNS, and goes on signing where that is later taken away: the DNS of others
must not stop a campaign, and `doctor` tells. Making a pair again under its stem finds the pair.
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
"""Characters; a name twice would be another key under the record of one that signs."""


class DkimService:
    """Creates, verifies, rotates and removes DKIM keys. `domain`: any spelling, or an address (else `Invalid`)."""

    def __init__(self, keys: DkimKeys, dns: TxtLookup, clock: Clock) -> None:
        self._keys = keys
        self._dns = dns
        self._clock = clock
        self._slots = OutboundSlots("DKIM key")

    def new_stem(self) -> str:
        """What the selectors of new keys begin with."""
        return dkim.selector_stem(self._clock.now(), ids.encode(int.from_bytes(self._clock.random(3), "big") >> 4, _MARK))

    def keys(self, tenant: str, domain: str) -> DomainKeys:
        """All of them, the oldest first; none at all is no error."""
        return self._keys.get(tenant, _domain(domain))

    def make(self, tenant: str, domain: str, stem: str, *, ed25519: bool) -> list[DkimKey]:
        """New keys, which sign nothing yet: an RSA key, and an Ed25519 key beside it. Again: the same. `Conflict`: too many."""
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
        """The first keys of a domain. `Conflict`: it has some."""
        was = self.keys(tenant, domain)
        if was.keys:
            raise Conflict(f"{was.domain} has DKIM keys already: `postroom sender dkim rotate {was.domain}` replaces them")
        return self.make(tenant, was.domain, self.new_stem(), ed25519=ed25519)

    def rotate(self, tenant: str, domain: str, *, ed25519: bool | None = None) -> list[DkimKey]:
        """New keys in place of those that sign, once they are verified (`renew`). `NotFound`: there are none yet."""
        was = self.keys(tenant, domain)
        if not was.keys:
            raise NotFound(f"{was.domain} has no DKIM key yet: `postroom sender dkim add {was.domain}` makes one")
        return self.renew(tenant, was.domain, self.new_stem(), ed25519=ed25519)

    def renew(self, tenant: str, domain: str, stem: str, *, ed25519: bool | None) -> list[DkimKey]:
        """`make`, whether there are keys or not; `ed25519` None: beside the RSA key where the domain has one that is in use."""
        if ed25519 is None:
            kept = (key for key in self.keys(tenant, domain).keys if key.status is not KeyStatus.RETIRED)
            ed25519 = any(key.algorithm is Algorithm.ED25519 for key in kept)
        return self.make(tenant, domain, stem, ed25519=ed25519)

    def verify(self, tenant: str, domain: str, selector: str) -> DkimKey:
        """Ask the DNS now, and note what it says, or that it does not answer; a key that waits and is found signs from now on.
        `NotFound`; `Conflict`: too many DNS checks are running (services.outbound_slots), or the keys were changed."""
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
        """Let a key sign without asking the DNS. `NotFound`."""
        was = self.keys(tenant, domain)
        key = was.key(selector)
        if key.status is not KeyStatus.WAITING:
            return key
        return self._changed(was, replace(self._activated(key), unchecked=True, finding=""))

    def remove(self, tenant: str, domain: str, selector: str) -> DkimKey:
        """For good: it signs no more, and its record is of no use once its mail has arrived. `NotFound`."""
        was = self.keys(tenant, domain)
        key = was.key(selector)
        self._keys.change(was, tuple(each for each in was.keys if each is not key))
        return key

    def _made(self, selector: str, algorithm: Algorithm) -> DkimPrivateKey:
        made = generate_key(algorithm)
        return DkimPrivateKey(DkimKey(selector, algorithm, made.public, self._clock.now()), made.private)

    def _activated(self, key: DkimKey) -> DkimKey:
        """A retired key stays what it is."""
        if key.status is not KeyStatus.WAITING:
            return key
        return replace(key, status=KeyStatus.ACTIVE, active_at=self._clock.now())

    def _changed(self, was: DomainKeys, key: DkimKey) -> DkimKey:
        self._keys.change(was, was.changed(key.selector, key))
        return key


def _domain(text: str) -> str:
    return sender_name(text).rpartition("@")[2]
