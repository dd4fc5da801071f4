"""Where tenants ask for callbacks, put together."""

from __future__ import annotations

from postroom.services.callbacks import CallbackService
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def callback_desk(settings: Settings, stores: Stores, ledger: Ledger) -> CallbackService:
    """Where tenants say whom to tell."""
    return CallbackService(
        ledger.callbacks,
        ledger.callback_secrets,
        ledger.deliveries,
        campaigns=ledger.campaigns,
        networks=settings.callback_networks,
        clock=stores.clock,
    )
