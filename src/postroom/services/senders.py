"""Senders as people use them: entered, verified by a TXT record in the DNS or on an operator's word, removed.

A sender once verified stays so, also where the record is later taken away: the DNS of others must not stop a campaign. Remove the
sender to stop it. Asking again is harmless, and what was last found is kept.
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
    """The part of the DNS that is asked."""

    def txt(self, name: str) -> list[str]:
        """Texts of a name; none where it does not exist. `Unavailable`: no answer."""
        ...


class SenderService:
    """Adds, verifies, trusts and removes sender identities."""

    def __init__(self, senders: Senders, dns: TxtLookup, clock: Clock) -> None:
        self._senders = senders
        self._dns = dns
        self._clock = clock
        self._slots = OutboundSlots("sender")

    def add(self, tenant: str, text: str) -> SenderIdentity:
        """Enter an address or a domain. Again: harmless. `Invalid`: it is neither."""
        return self._senders.add(tenant, sender_name(text))

    def get(self, tenant: str, text: str) -> SenderIdentity:
        """`NotFound`."""
        return self._senders.get(tenant, sender_name(text))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[SenderIdentity]:
        """By name."""
        return self._senders.list(tenant, cursor=cursor, limit=limit)

    def verify(self, tenant: str, text: str) -> SenderIdentity:
        """Ask the DNS now, and note what it says, or that it does not answer: that is the domain's affair, none of ours.
        `Conflict`: too many DNS checks are running (services.outbound_slots)."""
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
        """Take it on the operator's word, whether it was entered before or not."""
        identity = self._senders.add(tenant, sender_name(text))
        if identity.verified_at is not None:
            return identity
        return self._senders.change(identity, verified_at=self._clock.now(), trusted_by=operator, finding="")

    def remove(self, tenant: str, text: str) -> SenderIdentity:
        """`NotFound`."""
        return self._senders.remove(tenant, sender_name(text))


def _finding(identity: SenderIdentity, texts: list[str]) -> str:
    if not texts:
        return f"{identity.record_name} has no TXT record yet; a change of the DNS may take an hour to be seen"
    return f"{identity.record_name} has {len(texts)} TXT records, and none of them is {identity.record_value}"
