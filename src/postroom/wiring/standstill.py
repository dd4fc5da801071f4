"""Who finds campaigns that should move and do not, put together."""

from __future__ import annotations

from postroom.ledger.rate_windows import RateWindows
from postroom.pipeline.sender.provider_route import DailyQuota
from postroom.services.status import StalledCampaigns
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def standstill(stores: Stores, ledger: Ledger) -> StalledCampaigns:
    """Reads only."""
    waiting_for = DailyQuota(stores.rates, ledger.providers, stores.clock).waiting_for
    return StalledCampaigns(
        ledger.campaigns, stores.messages, RateWindows(stores.tables), waiting_for=waiting_for, clock=stores.clock
    )
