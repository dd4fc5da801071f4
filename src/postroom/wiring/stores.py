"""The stores of one backend, and the repositories over them.

Each member is opened, or made, when it is first used: a function on AWS uses few of them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from postroom.clock import Clock
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.audit import AuditLog
from postroom.ledger.auto_suppression import AutoSuppression
from postroom.ledger.bulk_update import BulkUpdate
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CallbackEndpoints, CallbackSecrets
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.inbound_events import InboundEventQueue
from postroom.ledger.memberships import Memberships
from postroom.ledger.providers import Providers
from postroom.ledger.rate_windows import MINUTE_MS, RateRecorder
from postroom.ledger.recounts import Recounts
from postroom.ledger.senders import Senders
from postroom.ledger.streams import DailyStreams
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.platform.ports.feed import Feed
from postroom.platform.ports.identity import IdentityProvider
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.rates import Rates
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.transfers import Transfers
from postroom.platform.ports.workflows import Workflows
from postroom.settings import Platform, Settings

if TYPE_CHECKING:
    from postroom.wiring.embedded import Machine


class Stores(Protocol):
    """Every port, implemented by one backend (embedded.py, aws.py)."""

    @property
    def clock(self) -> Clock: ...

    @property
    def secrets(self) -> Secrets: ...

    @property
    def tables(self) -> Tables: ...

    @property
    def objects(self) -> Objects: ...

    @property
    def messages(self) -> Messages: ...

    @property
    def queues(self) -> Queues: ...

    @property
    def timers(self) -> Timers: ...

    @property
    def workflows(self) -> Workflows: ...

    @property
    def feed(self) -> Feed: ...

    @property
    def journals(self) -> Journals: ...

    @property
    def rates(self) -> Rates: ...

    @property
    def transfers(self) -> Transfers: ...

    @property
    def identity(self) -> IdentityProvider | None:
        """None if users sign in at the built-in or at an external issuer."""
        ...

    @property
    def machine(self) -> Machine | None:
        """None on AWS."""
        ...

    def on_one_machine(self, what: str) -> Machine:
        """Return the machine. Raises `Unsupported` on AWS; `what` is the subject of the error text."""
        ...


def open_stores(settings: Settings) -> AbstractContextManager[Stores]:
    """Open the stores of the backend that the settings name; the context manager closes them."""
    if settings.platform is Platform.AWS:
        from postroom.wiring.aws import open_aws  # boto3 is there only where postroom[aws] is installed

        return open_aws(settings)
    from postroom.wiring.embedded import open_embedded  # a function on AWS never needs it

    return open_embedded(settings)


_STORES = frozenset(name for name in vars(Stores) if not name.startswith("_")) - {"identity", "machine", "on_one_machine"}


class Repositories:
    """The stores, and the repositories over them."""

    if TYPE_CHECKING:  # `__getattr__` finds these in `stores`
        clock: Clock
        secrets: Secrets
        tables: Tables
        objects: Objects
        messages: Messages
        queues: Queues
        timers: Timers
        workflows: Workflows
        feed: Feed
        journals: Journals
        rates: Rates
        transfers: Transfers

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self.settings = settings
        self.stores = stores

    if not TYPE_CHECKING:  # else mypy would allow any name

        def __getattr__(self, name: str) -> object:
            if name in _STORES:
                return getattr(self.stores, name)
            raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def lease_ms(self) -> int:
        """How long a worker may go without renewing its lease."""
        return round(self.settings.lease * 1000)

    # Tenants and access

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self.tables, self.clock)

    @cached_property
    def memberships(self) -> Memberships:
        return Memberships(self.tables, self.clock)

    @cached_property
    def key_records(self) -> ApiKeyRecords:
        return ApiKeyRecords(self.tables, self.clock)

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.tables, self.secrets, self.clock)

    # Senders, providers, suppression

    @cached_property
    def identities(self) -> Senders:
        return Senders(self.tables, self.clock)

    @cached_property
    def dkim_keys(self) -> DkimKeys:
        return DkimKeys(self.tables, self.secrets)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self.tables, self.secrets, self.clock, default_url=self.settings.mail)

    @cached_property
    def suppression(self) -> SuppressionList:
        return SuppressionList(self.tables, self.clock)

    # Campaigns and streams

    @cached_property
    def records(self) -> Campaigns:
        return Campaigns(self.tables, self.clock)

    @cached_property
    def streams(self) -> DailyStreams:
        return DailyStreams(self.messages, self.workflows, self.queues)

    @cached_property
    def auto_suppression(self) -> AutoSuppression:
        return AutoSuppression(self.messages, self.suppression, self.tenants, self.clock)

    @cached_property
    def bulk_update(self) -> BulkUpdate:
        return BulkUpdate(
            self.messages, self.journals, self.clock, lease_ms=self.lease_ms, auto_suppression=self.auto_suppression
        )

    # Events and callbacks

    @cached_property
    def inbound_events(self) -> InboundEventQueue:
        return InboundEventQueue(self.queues)

    @cached_property
    def recounts(self) -> Recounts:
        return Recounts(self.tables, self.messages, self.clock)

    @cached_property
    def rate_recorder(self) -> RateRecorder:
        keep_ms = round(self.settings.guard_window * 1000) + 2 * MINUTE_MS
        return RateRecorder(self.tables, self.clock, keep_ms=keep_ms)

    @cached_property
    def callbacks(self) -> CallbackEndpoints:
        return CallbackEndpoints(self.tables, self.callback_secrets, self.clock)

    @cached_property
    def callback_secrets(self) -> CallbackSecrets:
        return CallbackSecrets(self.tables, self.secrets, self.clock)

    @cached_property
    def deliveries(self) -> CallbackDeliveries:
        return CallbackDeliveries(self.tables, self.clock)
