"""What comes back, put together: from its queue into the records, watched by the guard.

How mail comes back: by SMTP to a listener, or to a mailbox that is looked into; behind both one mailroom.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from postroom.errors import Invalid
from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
from postroom.events.feedback import Backpressure, FeedbackWorker
from postroom.events.inbound_mail import InboundMailProcessor
from postroom.events.machine_detection import flag_too_early
from postroom.events.mailbox_poller import MailboxPoller
from postroom.events.reputation import ReputationGuard, ReputationRecorder
from postroom.events.tracking import TenantSecretCache
from postroom.events.unsubscribe import UnsubscribeService
from postroom.ledger.auto_suppression import SoftBounceCounts, SoftBouncePolicy
from postroom.ledger.event_applier import EventApplier
from postroom.ledger.suppression import SuppressionList
from postroom.model.reputation import ReputationLimits
from postroom.platform.mail.listener import MAX_BYTES, Listener
from postroom.platform.mail.listener_session import ListenerConfig
from postroom.platform.mail.mailbox import Mailbox
from postroom.platform.mail.mailbox_url import parse_mailbox
from postroom.settings import Settings
from postroom.wiring.container import Container
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


def check_way_back(settings: Settings) -> None:
    """`Invalid`: what the settings say of it cannot be used."""
    if settings.feedback_listen is not None and settings.bounce_domain is None:
        raise Invalid("POSTROOM_FEEDBACK_LISTEN needs POSTROOM_BOUNCE_DOMAIN: else no mail that comes in is ours")
    if settings.feedback_mailbox is not None:
        parse_mailbox(settings.feedback_mailbox)


def listener(postroom: Container) -> Listener:
    """Takes mail to the bounce domain."""
    settings = postroom.settings
    terms = ListenerConfig(name=settings.bounce_domain or "localhost", max_bytes=MAX_BYTES, kept_bytes=MAX_PARSED_BYTES)
    return Listener(_mailroom(postroom), terms, tls=_certificate(settings))


def collecting(postroom: Container, trouble: Callable[[str], None]) -> MailboxPoller | None:
    """Looks into the mailbox, if there is one. `Invalid`."""
    url = postroom.settings.feedback_mailbox
    if url is None:
        return None
    mailbox = Mailbox(parse_mailbox(url), kept_bytes=MAX_PARSED_BYTES)
    return MailboxPoller(mailbox, _mailroom(postroom), postroom.tables, on_trouble=trouble)


def _mailroom(postroom: Container) -> InboundMailProcessor:
    tenants, clock = postroom.tenants, postroom.clock
    return InboundMailProcessor(
        postroom.arrivals,
        UnsubscribeService(tenants, SuppressionList(postroom.tables, clock), postroom.arrivals, clock),
        secret_of=TenantSecretCache(tenants, clock),
        domain=postroom.settings.bounce_domain,
        clock=clock,
    )


def _certificate(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
