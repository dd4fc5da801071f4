"""Sender identities: added, verified by a DNS TXT record or trusted by an operator, removed.

A verified sender stays verified if its record disappears: a foreign DNS must not stop a campaign. Remove the sender to stop it.
Verifying again is harmless; the last result is kept.
"""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.ledger.collection import ListPage
from postroom.ledger.senders import Senders
from postroom.model.sender import SenderIdentity, sender_name
from postroom.services.outbound_slots import OutboundSlots


class TxtLookup(Protocol):
    def txt(self, name: str) -> list[str]:
        """TXT records of a name; empty if it does not exist. Raises `Unavailable` if there is no answer."""
        ...


class SenderService:
    def __init__(self, senders: Senders, dns: TxtLookup, clock: Clock) -> None:
        self._senders = senders
        self._dns = dns
        self._clock = clock
        self._slots = OutboundSlots("sender")

    def add(self, tenant: str, text: str) -> SenderIdentity:
        """Add an address or a domain. Idempotent. Raises `Invalid`."""
        return self._senders.add(tenant, sender_name(text))

    def get(self, tenant: str, text: str) -> SenderIdentity:
        """Raises `NotFound`."""
        return self._senders.get(tenant, sender_name(text))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[SenderIdentity]:
        """Senders by name."""
        return self._senders.list(tenant, cursor=cursor, limit=limit)

    def verify(self, tenant: str, text: str) -> SenderIdentity:
        """Query the DNS now and record the result, also if it does not answer.

        Raises `Conflict` if too many DNS checks are running (services.outbound_slots)."""
        identity = self._senders.get(tenant, sender_name(text))
        try:
            with self._slots.slot(tenant):
                texts = [found.strip() for found in self._dns.txt(identity.record_name)]
        except Unavailable as error:
            return self._senders.change(identity, checked_at=self._clock.now(), finding=f"{error}; try again later")
        now = self._clock.now()
        if identity.record_value in texts:
            return self._senders.change(identity, verified_at=identity.verified_at or now, checked_at=now, finding="")
        return self._senders.change(identity, checked_at=now, finding=_finding(identity, texts))

    def trust(self, tenant: str, text: str, *, operator: str) -> SenderIdentity:
        """Mark it verified on an operator's word; adds it if needed."""
        identity = self._senders.add(tenant, sender_name(text))
        if identity.verified_at is not None:
            return identity
        return self._senders.change(identity, verified_at=self._clock.now(), trusted_by=operator, finding="")

    def remove(self, tenant: str, text: str) -> SenderIdentity:
        """Raises `NotFound`."""
        return self._senders.remove(tenant, sender_name(text))


def _finding(identity: SenderIdentity, texts: list[str]) -> str:
    if not texts:
        return f"{identity.record_name} has no TXT record yet; a change of the DNS may take an hour to be seen"
    return f"{identity.record_name} has {len(texts)} TXT records, and none of them is {identity.record_value}"
