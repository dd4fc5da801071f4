"""What comes back, put together: heard at the door, from its queue into the records, watched by the guard."""

from __future__ import annotations

from postroom.events.feedback import Feedback
from postroom.events.giving_way import Sending
from postroom.events.guard import Guard
from postroom.events.hits import Hits
from postroom.events.links import LinkTables
from postroom.events.machines import judge
from postroom.events.ses.hook import Records, SesHook
from postroom.events.tenant_secrets import TenantSecrets
from postroom.events.tracking import Tracking
from postroom.events.unsubscribing import Unsubscribing
from postroom.events.watching import Watching
from postroom.ledger.incoming import Incoming
from postroom.ledger.soft_bounces import Patience, SoftBounces
from postroom.model.guard import Limits
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.ses import hook_of
from postroom.wiring.stores import Stores


def tracking(stores: Stores, ledger: Ledger, hits: Hits) -> Tracking:
    """Hears opens and clicks."""
    secrets = TenantSecrets(ledger.tenants, stores.clock)
    return Tracking(secrets, LinkTables(ledger.tenants, stores.messages, stores.objects), hits, stores.clock)


def unsubscribing(stores: Stores, ledger: Ledger) -> Unsubscribing:
    """Hears those who want no more."""
    return Unsubscribing(ledger.tenants, ledger.suppression, ledger.arrivals, stores.clock)


def ses_hook(settings: Settings, stores: Stores, ledger: Ledger) -> SesHook:
    """Hears Amazon SES."""
    records = Records(ledger.tenants, ledger.campaigns, stores.messages, ledger.suppression)
    return hook_of(settings, records, ledger.arrivals, stores.clock)


def feedback(settings: Settings, stores: Stores, ledger: Ledger) -> Feedback:
    """The worker that takes what was heard into the records."""
    patience = Patience(settings.soft_bounces, round(settings.soft_bounce_window * 1000), round(settings.soft_bounce_hold * 1000))
    incoming = Incoming(
        stores.messages,
        ledger.suppression,
        tenants=ledger.tenants,
        campaigns=ledger.campaigns,
        soft_bounces=SoftBounces(stores.tables, patience, stores.clock),
        judge=judge,
        clock=stores.clock,
        noted=ledger.recounts.note,
    )
    watching = Watching(ledger.tally, ledger.providers, stores.clock)
    return Feedback(stores.queues, incoming, watching, Sending(ledger.campaigns, stores.clock))


def guard(settings: Settings, stores: Stores, ledger: Ledger) -> Guard:
    """Who stops what goes too wrong."""
    limits = Limits(
        bounce_warn=settings.bounce_warn,
        bounce_pause=settings.bounce_pause,
        complaint_warn=settings.complaint_warn,
        complaint_pause=settings.complaint_pause,
        sample=settings.guard_sample,
        window_ms=round(settings.guard_window * 1000),
    )
    return Guard(stores.tables, ledger.campaigns, ledger.providers, audit=ledger.audit, clock=stores.clock, limits=limits)
