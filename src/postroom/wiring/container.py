"""The composition root: `open_app(settings)` yields the `Container` that commands, workers, the HTTP server and functions use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Self

from postroom.errors import Invalid
from postroom.model.campaign import CampaignRef
from postroom.model.provider import INBOX
from postroom.settings import Settings
from postroom.wiring.services import NO_AUDIENCE, Services
from postroom.wiring.stores import open_stores

if TYPE_CHECKING:
    from postroom.callbacks.consumer import DeliveryBuilder, FeedConsumer
    from postroom.callbacks.dispatcher import CallbackDispatcher
    from postroom.callbacks.endpoint_queues import EndpointQueues
    from postroom.events.feedback import FeedbackWorker
    from postroom.events.reputation import ReputationGuard
    from postroom.events.ses.webhook import SesWebhook
    from postroom.events.tracking import Tracking
    from postroom.events.tracking_buffer import SyncTrackingSink, TrackingBuffer
    from postroom.events.unsubscribe import SenderDisplay, UnsubscribeService
    from postroom.pipeline.scheduler import Scheduler
    from postroom.pipeline.sender.dispatch import Dispatch as SendRounds
    from postroom.pipeline.sender.worker import Sender
    from postroom.pipeline.splitter import Checkpoints, Splitter
    from postroom.pipeline.splitter.parallel import ParallelImport
    from postroom.services.status import StalledCampaigns


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


class Container(Services):
    """One installation: its services, its workers, and its locks."""

    def close(self) -> None:
        """Write tracking events that wait in memory."""
        if "hits" in vars(self):
            self.hits.close()

    def but(self, **others: object) -> Self:
        """Return a copy in which the named members are replaced (tests)."""
        changed = copy(self)
        vars(changed).update(others)
        return changed

    # Import and sending

    @cached_property
    def splitter(self) -> Splitter:
        from postroom.wiring.sending import splitter

        return splitter(self.stores, self.ledger)

    @cached_property
    def parallel_import(self) -> ParallelImport:
        """An import in parallel steps; loads nothing that sends."""
        from postroom.pipeline.splitter.parallel import ParallelImport

        return ParallelImport(
            campaigns=self.records,
            messages=self.messages,
            objects=self.objects,
            suppression=self.ledger.suppression,
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
        from postroom.wiring.sending import scheduler

        return scheduler(self.stores, self.ledger)

    @cached_property
    def sender(self) -> Sender:
        from postroom.wiring.sending import sender

        return sender(
            self.settings,
            self.stores,
            self.ledger,
            composing=self.composing,
            contents=self.contents,
            singles=self.composed_singles,
            accounts=self.ses_accounts,
        )

    @cached_property
    def rounds(self) -> SendRounds:
        """Plans dispatch cycles where many functions send."""
        from postroom.wiring.sending import send_rounds

        return send_rounds(self.stores, self.ledger, self.sender)

    # Events

    @cached_property
    def hits(self) -> TrackingBuffer | SyncTrackingSink:
        if self.stores.machine is None:
            from postroom.events.tracking_buffer import SyncTrackingSink

            return SyncTrackingSink(self.arrivals, self.clock)
        from postroom.events.tracking_buffer import TrackingBuffer

        return TrackingBuffer(self.arrivals)

    @cached_property
    def tracking(self) -> Tracking:
        """Records opens and clicks."""
        from postroom.events.tracking import LinkTableCache, TenantSecretCache, Tracking

        secrets = TenantSecretCache(self.tenants, self.clock)
        return Tracking(secrets, LinkTableCache(self.tenants, self.messages, self.objects), self.hits, self.clock)

    @cached_property
    def unsubscribing(self) -> UnsubscribeService:
        from postroom.events.unsubscribe import UnsubscribeService

        return UnsubscribeService(self.tenants, self.ledger.suppression, self.arrivals, self.clock)

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

        records = SesRecords(self.tenants, self.records, self.messages, self.ledger.suppression)
        client = SnsClient(self.clock, endpoint=sns_endpoint(self.settings.aws.variables))
        verifier = SnsVerifier(self.settings.ses_topics, client, self.clock)
        return SesWebhook(verifier, records, GroupCommit(self.arrivals.put).put)

    @cached_property
    def feedback(self) -> FeedbackWorker:
        from postroom.wiring.feedback import feedback

        return feedback(self.settings, self.stores, self.ledger)

    @cached_property
    def guard(self) -> ReputationGuard:
        from postroom.wiring.feedback import guard

        return guard(self.settings, self.stores, self.ledger)

    def callback_workers(self) -> tuple[FeedConsumer, EndpointQueues]:
        """What follows the feed and what makes the requests, for one process on one machine."""
        from postroom.wiring.callbacks import callback_workers

        return callback_workers(self.settings, self.stores, self.ledger, self.delivery_builder)

    @cached_property
    def stalled_campaigns(self) -> StalledCampaigns:
        """Finds campaigns that should move and do not; reads only."""
        from postroom.ledger.rate_windows import RateWindows
        from postroom.pipeline.sender.provider_route import DailyQuota
        from postroom.services.status import StalledCampaigns

        waiting_for = DailyQuota(self.stores.rates, self.providers, self.clock).waiting_for
        return StalledCampaigns(self.records, self.messages, RateWindows(self.tables), waiting_for=waiting_for, clock=self.clock)

    @cached_property
    def delivery_builder(self) -> DeliveryBuilder:
        """Makes callback deliveries of changes; makes no request."""
        from postroom.callbacks.consumer import DeliveryBuilder

        return DeliveryBuilder(self.messages, self.callbacks, self.deliveries, campaigns=self.records, clock=self.clock)

    @cached_property
    def callback_dispatcher(self) -> CallbackDispatcher:
        """Makes the callback requests where processes come and go (AWS)."""
        from postroom.wiring.callbacks import callback_dispatcher

        return callback_dispatcher(self.settings, self.stores, self.ledger)

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

        self.stores.on_one_machine("a worker or server of its own")
        path = self.settings.data / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            yield lock.try_acquire_for(patience_s)
        finally:
            lock.close()
