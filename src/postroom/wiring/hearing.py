"""What is heard at the door, put together: opens, clicks, and those who want no more."""

from __future__ import annotations

from postroom.events.tracking import LinkTableCache, TenantSecretCache, Tracking, TrackingSink
from postroom.events.unsubscribe import UnsubscribeService
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def tracking(stores: Stores, ledger: Ledger, hits: TrackingSink) -> Tracking:
    """Hears opens and clicks."""
    secrets = TenantSecretCache(ledger.tenants, stores.clock)
    return Tracking(secrets, LinkTableCache(ledger.tenants, stores.messages, stores.objects), hits, stores.clock)


def unsubscribing(stores: Stores, ledger: Ledger) -> UnsubscribeService:
    """Hears those who want no more."""
    return UnsubscribeService(ledger.tenants, ledger.suppression, ledger.arrivals, stores.clock)
