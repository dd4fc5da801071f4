"""What is heard at the door, put together: opens, clicks, and those who want no more."""

from __future__ import annotations

from postroom.events.tracking import LinkTables, Taker, TenantSecrets, Tracking
from postroom.events.unsubscribe import Unsubscribing
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def tracking(stores: Stores, ledger: Ledger, hits: Taker) -> Tracking:
    """Hears opens and clicks."""
    secrets = TenantSecrets(ledger.tenants, stores.clock)
    return Tracking(secrets, LinkTables(ledger.tenants, stores.messages, stores.objects), hits, stores.clock)


def unsubscribing(stores: Stores, ledger: Ledger) -> Unsubscribing:
    """Hears those who want no more."""
    return Unsubscribing(ledger.tenants, ledger.suppression, ledger.arrivals, stores.clock)
