"""Who makes callbacks' deliveries of what happened, put together: without what makes the requests."""

from __future__ import annotations

from postroom.callbacks.consumer import DeliveryBuilder
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def callback_teller(stores: Stores, ledger: Ledger) -> DeliveryBuilder:
    """For one process."""
    return DeliveryBuilder(
        stores.messages,
        ledger.callbacks,
        ledger.deliveries,
        campaigns=ledger.campaigns,
        clock=stores.clock,
    )
