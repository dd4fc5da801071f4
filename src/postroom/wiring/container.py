"""The composition root: `open_app(settings)` yields the `Container` that commands, workers, the HTTP server and functions use."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Final, Self

from postroom.errors import Invalid
from postroom.model.callback import CallbackEndpoint
from postroom.model.campaign import CampaignRef
from postroom.model.provider import INBOX
from postroom.settings import Settings
from postroom.wiring.services import NO_AUDIENCE, Services
from postroom.wiring.stores import open_stores

if TYPE_CHECKING:
    from postroom.callbacks.consumer import DeliveryBuilder, FeedConsumer
    from postroom.callbacks.dispatcher import CallbackDispatcher
    from postroom.callbacks.endpoint_queues import EndpointQueues
    from postroom.callbacks.endpoint_worker import EndpointWorker
    from postroom.events.feedback import FeedbackWorker
    from postroom.events.inbound_mail import InboundMailProcessor
    from postroom.events.mailbox_poller import MailboxPoller
    from postroom.events.reputation import ReputationGuard
    from postroom.events.ses.webhook import SesWebhook
    from postroom.events.tracking import Tracking
    from postroom.events.tracking_buffer import SyncTrackingSink, TrackingBuffer
    from postroom.events.unsubscribe import SenderDisplay, UnsubscribeService
    from postroom.pipeline.scheduler import Scheduler
    from postroom.pipeline.sender.dispatch import Dispatch
    from postroom.pipeline.sender.worker import Sender
    from postroom.pipeline.splitter import Checkpoints, Splitter
    from postroom.pipeline.splitter.parallel import ParallelImport
    from postroom.platform.mail.listener import Listener
    from postroom.services.status import StalledCampaigns

_PROMPT_ON_AWS_MS: Final = 75_000
"""EventBridge fires within the minute, and a function has to start."""
_LINGER_ON_AWS_S: Final = 3.0
"""A function that waits costs as much as one that sends: thirty seconds after each single message would be $900 a million."""
MOMENT_ON_AWS_S: Final = 2.0
"""A group and its grants are writes that are paid for: a slow account would pay as much for them as for its messages."""
_FUNCTIONS: Final = 50
"""Functions that send one campaign at the same time, at most: as many as the state machine `send` starts (infra/machines)."""
_OK: Final = 200


@contextmanager
def open_app(settings: Settings) -> Iterator[Container]:
    """Open the stores that the settings name, and yield the container. At the end, close them.

    Raises `Invalid` when the provider URL cannot be used, or an external issuer is set without an audience.
    """
    if settings.issuer and not settings.audience:
        raise Invalid(NO_AUDIENCE)
    if settings.mail != INBOX:
        from postroom.platform.mail.provider_url import parse_provider_url

        parse_provider_url(settings.mail, trusted=True)
    with open_stores(settings) as stores:
        container = Container(settings, stores)
        try:
            yield container
        finally:
            container.close()


def check_inbound_mail(settings: Settings) -> None:
    """Raises `Invalid` when the settings for mail that comes back cannot be used."""
    if settings.feedback_listen is not None and settings.bounce_domain is None:
        raise Invalid("POSTROOM_FEEDBACK_LISTEN needs POSTROOM_BOUNCE_DOMAIN: else no mail that comes in is ours")
    if settings.feedback_mailbox is not None:
        from postroom.platform.mail.mailbox_url import parse_mailbox

        parse_mailbox(settings.feedback_mailbox)


class Container(Services):
    """One installation: its services, its workers, and its locks."""

    def close(self) -> None:
        """Write tracking events that wait in memory."""
        if "tracking_sink" in vars(self):
            self.tracking_sink.close()

    def but(self, **others: object) -> Self:
        """Return a copy in which the named members are replaced (tests)."""
        changed = copy(self)
        vars(changed).update(others)
        return changed

    # Import and sending

    @cached_property
    def splitter(self) -> Splitter:
        """An import in one process: rows to messages."""
        from postroom.pipeline.splitter import Splitter

        return Splitter(
            campaigns=self.records,
            messages=self.messages,
            objects=self.objects,
            suppression=self.suppression,
            tables=self.tables,
            tenants=self.tenants,
            clock=self.clock,
        )

    @cached_property
    def parallel_import(self) -> ParallelImport:
        """An import in parallel steps; loads nothing that sends."""
        from postroom.pipeline.splitter.parallel import ParallelImport

        return ParallelImport(
            campaigns=self.records,
            messages=self.messages,
            objects=self.objects,
            suppression=self.suppression,
            tables=self.tables,
            tenants=self.tenants,
            clock=self.clock,
        )

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Checkpoints of imports."""
        from postroom.pipeline.splitter import Checkpoints

        return Checkpoints(self.tables)

    @cached_property
    def scheduler(self) -> Scheduler:
        from postroom.pipeline.scheduler import PROMPT_MS, Scheduler

        return Scheduler(
            self.records,
            self.streams,
            timers=self.timers,
            workflows=self.workflows,
            clock=self.clock,
            prompt_ms=PROMPT_MS if self.stores.machine is not None else _PROMPT_ON_AWS_MS,
        )

    @cached_property
    def sender(self) -> Sender:
        from postroom.ledger.campaigns import CampaignCompletion
        from postroom.pipeline.sender.worker import Sender, SenderOptions, SenderStores
        from postroom.wiring.providers import ConnectionBudgets, build_route

        settings = self.settings
        options = SenderOptions(workers=settings.workers, lease_ms=self.lease_ms, drain_s=settings.drain)
        if self.stores.machine is None:  # a function is one worker; the state machine tells it how many run beside it
            options = replace(options, workers=1, linger_s=_LINGER_ON_AWS_S, moment_s=MOMENT_ON_AWS_S)
        stores = SenderStores(
            campaigns=self.records,
            compiler=self.compiler,
            suppression=self.suppression,
            completion=CampaignCompletion(self.records, self.messages),
            messages=self.messages,
            journals=self.journals,
            rates=self.rates,
            tenants=self.tenants,
            streams=self.streams,
            contents=self.contents,
            transactional=self.transactional_compiler,
            auto_suppression=self.auto_suppression,
            rate_recorder=self.rate_recorder,
        )
        route_for = partial(build_route, self.providers, ConnectionBudgets(), accounts=self.ses_accounts)
        return Sender(stores, route_for, options, single_provider=self.providers.for_single, clock=self.clock)

    @cached_property
    def dispatch(self) -> Dispatch:
        """Plans dispatch cycles where many functions send."""
        from postroom.ledger.campaigns import CampaignCompletion
        from postroom.pipeline.sender.dispatch import Dispatch

        return Dispatch(
            self.records,
            self.messages,
            self.objects,
            CampaignCompletion(self.records, self.messages),
            rate=self.sender.rate,
            used_up=self.sender.used_up,
            most=_FUNCTIONS,
            clock=self.clock,
        )

    # Events

    @cached_property
    def tracking_sink(self) -> TrackingBuffer | SyncTrackingSink:
        if self.stores.machine is None:
            from postroom.events.tracking_buffer import SyncTrackingSink

            return SyncTrackingSink(self.inbound_events, self.clock)
        from postroom.events.tracking_buffer import TrackingBuffer

        return TrackingBuffer(self.inbound_events)

    @cached_property
    def tracking(self) -> Tracking:
        """Records opens and clicks."""
        from postroom.events.tracking import LinkTableCache, TenantSecretCache, Tracking

        secrets = TenantSecretCache(self.tenants, self.clock)
        return Tracking(secrets, LinkTableCache(self.tenants, self.messages, self.objects), self.tracking_sink, self.clock)

    @cached_property
    def unsubscribe(self) -> UnsubscribeService:
        from postroom.events.unsubscribe import UnsubscribeService

        return UnsubscribeService(self.tenants, self.suppression, self.inbound_events, self.clock)

    @cached_property
    def sender_display(self) -> SenderDisplay:
        from postroom.events.unsubscribe import SenderDisplay

        return SenderDisplay(self.records)

    @cached_property
    def ses_webhook(self) -> SesWebhook:
        """Raises `Invalid` when AWS's own variables name no endpoint where SNS could be."""
        from postroom.events.group_commit import GroupCommit
        from postroom.events.ses.sns import SnsVerifier
        from postroom.events.ses.sns_client import SnsClient
        from postroom.events.ses.webhook import SesRecords, SesWebhook
        from postroom.platform.mail.ses_url import sns_endpoint

        records = SesRecords(self.tenants, self.records, self.messages, self.suppression)
        client = SnsClient(self.clock, endpoint=sns_endpoint(self.settings.aws.variables))
        verifier = SnsVerifier(self.settings.ses_topics, client, self.clock)
        return SesWebhook(verifier, records, GroupCommit(self.inbound_events.put).put)

    @cached_property
    def feedback(self) -> FeedbackWorker:
        """Applies queued events to messages."""
        from postroom.events.feedback import Backpressure, FeedbackWorker
        from postroom.events.machine_detection import flag_too_early
        from postroom.events.reputation import ReputationRecorder
        from postroom.ledger.auto_suppression import SoftBounceCounts, SoftBouncePolicy
        from postroom.ledger.event_applier import EventApplier

        settings = self.settings
        policy = SoftBouncePolicy(
            settings.soft_bounces, round(settings.soft_bounce_window * 1000), round(settings.soft_bounce_hold * 1000)
        )
        applier = EventApplier(
            self.messages,
            self.suppression,
            tenants=self.tenants,
            campaigns=self.records,
            soft_bounces=SoftBounceCounts(self.tables, policy, self.clock),
            judge=flag_too_early,
            clock=self.clock,
            noted=self.recounts.note,
        )
        reputation = ReputationRecorder(self.rate_recorder, self.providers, self.clock)
        return FeedbackWorker(self.queues, applier, reputation, Backpressure(self.records, self.clock))

    @cached_property
    def guard(self) -> ReputationGuard:
        """Pauses campaigns and providers with too many bounces or complaints."""
        from postroom.events.reputation import ReputationGuard
        from postroom.model.reputation import ReputationLimits

        settings = self.settings
        limits = ReputationLimits(
            bounce_warn=settings.bounce_warn,
            bounce_pause=settings.bounce_pause,
            complaint_warn=settings.complaint_warn,
            complaint_pause=settings.complaint_pause,
            sample=settings.guard_sample,
            window_ms=round(settings.guard_window * 1000),
        )
        return ReputationGuard(self.tables, self.records, self.providers, audit=self.audit, clock=self.clock, limits=limits)

    @cached_property
    def inbound_mail(self) -> InboundMailProcessor:
        """Turns bounces and replies into events."""
        from postroom.events.inbound_mail import InboundMailProcessor
        from postroom.events.tracking import TenantSecretCache

        return InboundMailProcessor(
            self.inbound_events,
            self.unsubscribe,
            secret_of=TenantSecretCache(self.tenants, self.clock),
            domain=self.settings.bounce_domain,
            clock=self.clock,
        )

    def mail_listener(self) -> Listener:
        """Return the SMTP listener of the bounce domain."""
        from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
        from postroom.platform.mail.listener import MAX_BYTES, Listener
        from postroom.platform.mail.listener_session import ListenerConfig

        settings, tls = self.settings, None
        if settings.tls_certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(settings.tls_certificate, settings.tls_key)
        config = ListenerConfig(name=settings.bounce_domain or "localhost", max_bytes=MAX_BYTES, kept_bytes=MAX_PARSED_BYTES)
        return Listener(self.inbound_mail, config, tls=tls)

    def mailbox_poller(self, on_trouble: Callable[[str], None]) -> MailboxPoller | None:
        """Return None if POSTROOM_FEEDBACK_MAILBOX is not set. Raises `Invalid` when it cannot be used."""
        from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
        from postroom.events.mailbox_poller import MailboxPoller
        from postroom.platform.mail.mailbox import Mailbox
        from postroom.platform.mail.mailbox_url import parse_mailbox

        if self.settings.feedback_mailbox is None:
            return None
        mailbox = Mailbox(parse_mailbox(self.settings.feedback_mailbox), kept_bytes=MAX_PARSED_BYTES)
        return MailboxPoller(mailbox, self.inbound_mail, self.tables, on_trouble=on_trouble)

    @cached_property
    def stalled_campaigns(self) -> StalledCampaigns:
        """Finds campaigns that should move and do not; reads only."""
        from postroom.ledger.rate_windows import RateWindows
        from postroom.pipeline.sender.provider_route import DailyQuota
        from postroom.services.status import StalledCampaigns

        waiting_for = DailyQuota(self.rates, self.providers, self.clock).waiting_for
        return StalledCampaigns(self.records, self.messages, RateWindows(self.tables), waiting_for=waiting_for, clock=self.clock)

    # Callbacks

    @cached_property
    def delivery_builder(self) -> DeliveryBuilder:
        """Makes callback deliveries of changes; makes no request."""
        from postroom.callbacks.consumer import DeliveryBuilder

        return DeliveryBuilder(self.messages, self.callbacks, self.deliveries, campaigns=self.records, clock=self.clock)

    def callback_workers(self) -> tuple[FeedConsumer, EndpointQueues]:
        """Return the consumer of the feed, and the queues that make the requests, for one process on one machine."""
        from postroom.callbacks.consumer import FeedConsumer
        from postroom.callbacks.endpoint_queues import EndpointQueues

        consumer = FeedConsumer(
            self.feed,
            self.delivery_builder,
            tables=self.tables,
            campaign_of=_campaign_of_shard,
            owner=self.clock.random(8).hex(),
            clock=self.clock,
        )
        return consumer, EndpointQueues(self.deliveries, self.endpoint_worker(), self.clock)

    @cached_property
    def callback_dispatcher(self) -> CallbackDispatcher:
        """Makes the callback requests where processes come and go (AWS)."""
        from postroom.callbacks.dispatcher import CallbackDispatcher, Wakeups
        from postroom.ledger.callback_deliveries import EndpointLeases

        leases = EndpointLeases(self.tables, self.clock)
        return CallbackDispatcher(self.deliveries, leases, self.endpoint_worker, wakeups=Wakeups(self.queues), clock=self.clock)

    def endpoint_worker(self) -> EndpointWorker:
        """Return a worker that makes the requests to callback endpoints."""
        from postroom.callbacks.endpoint_worker import EndpointWorker
        from postroom.platform.web.client import WebClient

        return EndpointWorker(
            self.callbacks,
            self.deliveries,
            self.records,
            connect=partial(WebClient, networks=self.settings.callback_networks, context=_tls_context()),
            on_disabled=self._record_disabled,
            clock=self.clock,
        )

    def _record_disabled(self, endpoint: CallbackEndpoint) -> None:
        from postroom.model.audit import AuditRecord

        self.audit.write(
            endpoint.tenant,
            AuditRecord(
                id=self.audit.new_id(),
                actor="callbacks:callbacks",
                name="the callback service",
                address="",
                action="callbacks switch off",
                target=f"callback/{endpoint.id}",
                reason=endpoint.disabled_reason,
                status=_OK,
            ),
        )

    # Locks on one machine

    @contextmanager
    def run_lock(self, ref: CampaignRef) -> Iterator[bool]:
        """Yield True if this process holds the campaign's run lock. The lock ends with the process."""
        with self._lock(ref.campaign) as taken:
            yield taken

    @contextmanager
    def serving(self) -> Iterator[bool]:
        """Yield True if this process holds the server lock. The lock ends with the process."""
        with self._lock("serve", patience_s=1.0) as taken:  # others only look whether it is free
            yield taken

    def is_served(self) -> bool:
        """Whether a server runs on this data; on AWS the stack always does."""
        if self.stores.machine is None:
            return True
        with self._lock("serve") as free:
            return not free

    @contextmanager
    def _lock(self, name: str, *, patience_s: float = 0.0) -> Iterator[bool]:
        from postroom.platform.embedded._files import FileLock  # only on one machine

        self.stores.on_one_machine("a worker or server process")
        path = self.settings.data / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            yield lock.try_acquire_for(patience_s)
        finally:
            lock.close()


@cache
def _tls_context() -> ssl.SSLContext:
    """Shared: creating one takes some milliseconds and a megabyte."""
    from postroom.platform.web.client import trusting_context

    return trusting_context()


def _campaign_of_shard(shard: str) -> CampaignRef:
    """On one machine each shard is a campaign's ledger (embedded.feed)."""
    tenant, _, campaign = shard.partition("/")
    return CampaignRef(tenant, campaign)
