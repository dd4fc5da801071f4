"""Erasure of a person (GDPR Art. 17): what is known of an address is forgotten, wherever the tenant has it.

A person is their key (model.shard): an HMAC of the normalised address under the tenant's secret. So they are found in a campaign
without reading its messages, and the erasure itself remembers no address. In this order:

    suppression list: the key alone stays, or nothing · uploads with a row of theirs: deleted
    each campaign: message skipped if it waits, then erased; recipients file deleted; report of rejected rows written anew
    each day of single messages: read through, as their keys are not made of addresses
    what callbacks were told and are to be told: without the address · built-in inbox: mails to them deleted
    audit trail: that it was done, by the key

Each step may be repeated and finds by itself what is left to do, so a kill anywhere is mended by erasing again. A campaign that
is being imported, its upload, or a batch that a worker keeps for long, must be waited for: the erasure is not complete, and
says so.
"""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Clock
from postroom.ledger.audit import AuditLog
from postroom.ledger.bulk_update import ShouldContinue, never_stopped
from postroom.ledger.tenants import Tenants, tenant_lock
from postroom.model import address
from postroom.model.audit import AuditRecord
from postroom.model.ids import Key, recipient_key
from postroom.platform.ports.tables import Tables
from postroom.services.erasure_work import Ended, Erased, ErasureWork, Places

__all__ = ["Erased", "ErasureService", "Places"]

Progress = Callable[[str], None]


def _unseen(_what: str) -> None:
    """For callers who show no progress."""


class ErasureService:
    """For all tenants."""

    def __init__(self, places: Places, *, tables: Tables, tenants: Tenants, audit: AuditLog, clock: Clock) -> None:
        self._places = places
        self._tables = tables
        self._tenants = tenants
        self._audit = audit
        self._clock = clock

    def key_of(self, tenant: str, text: str) -> Key:
        """Who an address is. `Invalid`: it is none; `NotFound`: no such tenant."""
        return recipient_key(self._tenants.get(tenant).secret, address.parse_address(text).normalised)

    def erase(
        self,
        tenant: str,
        key: Key,
        *,
        forget_suppression: bool = False,
        actor: str = "operator",
        alive: ShouldContinue = never_stopped,
        progress: Progress = _unseen,
    ) -> Erased:
        """Forget the person. Not `complete`: `alive` ended it, or something is `waiting`: erase again. `Conflict`: another of the
        tenant's erasures is under way."""
        owner = self._tenants.get(tenant)
        with tenant_lock(self._tables, self._clock, tenant=tenant, work="erasure") as ours:

            def beat() -> None:
                if not alive():
                    raise Ended
                ours.keep()

            work = ErasureWork(self._places, owner, key, beat=beat, clock=self._clock)
            try:
                for step in work.steps(forget_suppression=forget_suppression):
                    progress(step)
                    beat()
            except Ended:
                return work.found
            work.found.complete = not work.found.waiting
            if work.found.complete:
                self._note(tenant, key, actor)
        return work.found

    def _note(self, tenant: str, key: Key, actor: str) -> None:
        entry = AuditRecord(
            id=self._audit.new_id(), actor=actor, address="", action="erase", status=200, target=f"person/{key.hex()}"
        )
        self._audit.write(tenant, entry)
