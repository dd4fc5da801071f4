"""All that an installation offers, in one place: what commands, workers and the door work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from postroom.clock import Clock
from postroom.delivery.composing import Composing
from postroom.events.callbacks.follower import Follower
from postroom.events.callbacks.lanes import Lanes
from postroom.events.feedback import Feedback
from postroom.events.guard import Guard
from postroom.events.hits import Hits
from postroom.events.letterhead import Letterhead
from postroom.events.ses.hook import SesHook
from postroom.events.tracking import Tracking
from postroom.events.unsubscribing import Unsubscribing
from postroom.gateway.auth import TokenAuthenticator
from postroom.issuer.issuer import Issuer
from postroom.ledger.access import Memberships
from postroom.ledger.arrivals import Arrivals
from postroom.ledger.audit import AuditLog
from postroom.ledger.callbacks import Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries
from postroom.ledger.providers import Providers
from postroom.ledger.recounts import Recounts
from postroom.ledger.senders import Senders
from postroom.ledger.streams import Streams
from postroom.ledger.tallies import Tally
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Home
from postroom.pipeline.scheduler import Scheduler
from postroom.pipeline.sender.sender import Sender
from postroom.pipeline.splitter import Checkpoints, Splitter
from postroom.platform.mail.inbox import Inbox
from postroom.platform.ports.feed import Feed
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.workflows import Workflows
from postroom.services.callbacks import CallbackService
from postroom.services.campaign_changes import Changes
from postroom.services.campaign_dry_run import DryRun
from postroom.services.campaign_edits import Edits
from postroom.services.campaign_orders import Orders
from postroom.services.campaign_reading import CampaignReading
from postroom.services.campaigns import CampaignService
from postroom.services.dkim import DkimService
from postroom.services.erasure import ErasureService
from postroom.services.erasure_requests import ErasureRequests
from postroom.services.exports import Exports
from postroom.services.inbox import InboxService
from postroom.services.keys import ApiKeys
from postroom.services.members import Members
from postroom.services.messages import MessageService
from postroom.services.providers import ProviderService
from postroom.services.retention import CampaignRetention
from postroom.services.rotation import Rotation
from postroom.services.senders import SenderService
from postroom.services.status import StatusService
from postroom.services.stream_retention import StreamRetention
from postroom.services.suppression import SuppressionLists
from postroom.services.templates import TemplateService
from postroom.services.uploads import UploadService
from postroom.settings import Settings
from postroom.wiring.stores import Stores


@dataclass(frozen=True, slots=True)
class Postroom:
    """One installation, put together."""

    settings: Settings
    stores: Stores

    # Who and whose
    tenants: Tenants
    memberships: Memberships
    members: Members
    api_keys: ApiKeys
    authenticator: TokenAuthenticator
    issuer: Issuer | None
    """None: people sign in at an issuer of others (POSTROOM_ISSUER)."""
    audit: AuditLog
    rotation: Callable[[], Rotation]
    """Of the master key. `Unsupported` on AWS, where it is KMS's."""

    # As whom and through what mail leaves
    identities: Senders
    senders: SenderService
    dkim: DkimService
    providers: Providers
    provider_verbs: ProviderService
    suppressions: SuppressionLists
    inbox: InboxService
    inbox_server: Inbox

    # What is sent
    templates: TemplateService
    uploads: UploadService
    singles: MessageService
    streams: Streams
    stream_retention: StreamRetention
    records: Campaigns
    checkpoints: Checkpoints
    campaigns: CampaignService
    orders: Orders
    edits: Edits
    changes: Changes
    dry_run: DryRun
    reading: CampaignReading
    exports: Exports
    erasure: ErasureService
    erasure_requests: ErasureRequests
    campaign_retention: CampaignRetention
    status: StatusService
    composing: Composing

    # What sends it
    splitter: Splitter
    scheduler: Scheduler
    sender: Sender

    # What comes back
    arrivals: Arrivals
    feedback: Feedback
    callbacks: Callbacks
    deliveries: Deliveries
    callback_desk: CallbackService
    callback_lines: Callable[[], tuple[Follower, Lanes]]
    """Who follows the feed, and who makes the requests: for one process."""
    tally: Tally
    guard: Guard
    hits: Hits
    tracking: Tracking
    unsubscribing: Unsubscribing
    letterhead: Letterhead
    ses_hook: SesHook
    recounts: Recounts

    @property
    def clock(self) -> Clock:
        return self.stores.clock

    @property
    def secrets(self) -> Secrets:
        return self.stores.secrets

    @property
    def tables(self) -> Tables:
        return self.stores.tables

    @property
    def objects(self) -> Objects:
        return self.stores.objects

    @property
    def messages(self) -> Messages:
        return self.stores.messages

    @property
    def queues(self) -> Queues:
        return self.stores.queues

    @property
    def timers(self) -> Timers:
        return self.stores.timers

    @property
    def workflows(self) -> Workflows:
        return self.stores.workflows

    @property
    def feed(self) -> Feed:
        return self.stores.feed

    @property
    def journals(self) -> Journals:
        return self.stores.journals

    @contextmanager
    def run_lock(self, home: Home) -> Iterator[bool]:
        """Whether this process alone runs the campaign's workers; the lock is gone with the process, however that ends."""
        with self._lock(home.campaign) as taken:
            yield taken

    @contextmanager
    def serving(self) -> Iterator[bool]:
        """Whether this process alone is the server; the lock is gone with the process, however that ends."""
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
        from postroom.platform.embedded._files import FileLock  # where there is a machine to lock

        self.stores.on_one_machine("a worker or server of its own")
        path = self.settings.data / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            yield lock.try_acquire_for(patience_s)
        finally:
            lock.close()
