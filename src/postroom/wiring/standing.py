"""What every service of an installation stands on: its settings, its stores, and the ledger over them."""

from __future__ import annotations

from postroom.clock import Clock
from postroom.ledger.audit import AuditLog
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CallbackEndpoints
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.inbound_events import InboundEventQueue
from postroom.ledger.memberships import Memberships
from postroom.ledger.providers import Providers
from postroom.ledger.rate_windows import RateRecorder
from postroom.ledger.recounts import Recounts
from postroom.ledger.senders import Senders
from postroom.ledger.streams import DailyStreams
from postroom.ledger.tenants import Tenants
from postroom.platform.ports.feed import Feed
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.workflows import Workflows
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


class Standing:
    """Of one installation."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self.settings = settings
        self.stores = stores
        self.ledger = Ledger(settings, stores)

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

    @property
    def tenants(self) -> Tenants:
        return self.ledger.tenants

    @property
    def memberships(self) -> Memberships:
        return self.ledger.memberships

    @property
    def audit(self) -> AuditLog:
        return self.ledger.audit

    @property
    def identities(self) -> Senders:
        """As whom mail leaves."""
        return self.ledger.senders

    @property
    def providers(self) -> Providers:
        return self.ledger.providers

    @property
    def records(self) -> Campaigns:
        """Of campaigns."""
        return self.ledger.campaigns

    @property
    def streams(self) -> DailyStreams:
        return self.ledger.streams

    @property
    def arrivals(self) -> InboundEventQueue:
        return self.ledger.arrivals

    @property
    def recounts(self) -> Recounts:
        return self.ledger.recounts

    @property
    def tally(self) -> RateRecorder:
        return self.ledger.tally

    @property
    def callbacks(self) -> CallbackEndpoints:
        return self.ledger.callbacks

    @property
    def deliveries(self) -> CallbackDeliveries:
        return self.ledger.deliveries
