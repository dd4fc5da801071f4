"""What comes back, put together: from its queue into the records, watched by the guard."""

from __future__ import annotations

from postroom.events.feedback import Backpressure, FeedbackWorker
from postroom.events.machine_detection import flag_too_early
from postroom.events.reputation import ReputationGuard, ReputationRecorder
from postroom.ledger.auto_suppression import SoftBounceCounts, SoftBouncePolicy
from postroom.ledger.event_applier import EventApplier
from postroom.model.reputation import ReputationLimits
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def feedback(settings: Settings, stores: Stores, ledger: Ledger) -> FeedbackWorker:
    """The worker that takes what was heard into the records."""
    patience = SoftBouncePolicy(
        settings.soft_bounces, round(settings.soft_bounce_window * 1000), round(settings.soft_bounce_hold * 1000)
    )
    incoming = EventApplier(
        stores.messages,
        ledger.suppression,
        tenants=ledger.tenants,
        campaigns=ledger.campaigns,
        soft_bounces=SoftBounceCounts(stores.tables, patience, stores.clock),
        judge=flag_too_early,
        clock=stores.clock,
        noted=ledger.recounts.note,
    )
    watching = ReputationRecorder(ledger.tally, ledger.providers, stores.clock)
    return FeedbackWorker(stores.queues, incoming, watching, Backpressure(ledger.campaigns, stores.clock))


def guard(settings: Settings, stores: Stores, ledger: Ledger) -> ReputationGuard:
    """Who stops what goes too wrong."""
    limits = ReputationLimits(
        bounce_warn=settings.bounce_warn,
        bounce_pause=settings.bounce_pause,
        complaint_warn=settings.complaint_warn,
        complaint_pause=settings.complaint_pause,
        sample=settings.guard_sample,
        window_ms=round(settings.guard_window * 1000),
    )
    return ReputationGuard(
        stores.tables, ledger.campaigns, ledger.providers, audit=ledger.audit, clock=stores.clock, limits=limits
    )
