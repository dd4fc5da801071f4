"""What comes back, put together: from its queue into the records."""

from __future__ import annotations

from collections.abc import Callable

from postroom.events.feedback import Feedback
from postroom.events.giving_way import Sending
from postroom.events.machines import judge
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.incoming import Applied, Incoming
from postroom.ledger.recounts import Recounts
from postroom.ledger.soft_bounces import Patience, SoftBounces
from postroom.ledger.suppression import Suppression
from postroom.ledger.tenants import Tenants
from postroom.settings import Settings
from postroom.wiring.stores import Stores


def feedback(
    settings: Settings,
    stores: Stores,
    observe: Callable[[Applied], None],
    *,
    recounts: Recounts,
    tenants: Tenants,
    campaigns: Campaigns,
    suppression: Suppression,
) -> Feedback:
    """The worker; `observe` watches the rates."""
    patience = Patience(settings.soft_bounces, round(settings.soft_bounce_window * 1000), round(settings.soft_bounce_hold * 1000))
    incoming = Incoming(
        stores.messages,
        suppression,
        tenants=tenants,
        campaigns=campaigns,
        soft_bounces=SoftBounces(stores.tables, patience, stores.clock),
        judge=judge,
        clock=stores.clock,
        noted=recounts.note,
    )
    return Feedback(stores.queues, incoming, observe, Sending(campaigns, stores.clock))
