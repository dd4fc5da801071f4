"""The ledger over the stores: who keeps which records, each made when it is first asked for and then the same for all."""

from __future__ import annotations

from functools import cached_property

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
from postroom.settings import Settings
from postroom.wiring.stores import Stores


class Ledger:
    """What is kept of whom."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._clock = stores.clock

    # Who and whose

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self._stores.tables, self._clock)

    @cached_property
    def memberships(self) -> Memberships:
        return Memberships(self._stores.tables, self._clock)

    @cached_property
    def keys(self) -> ApiKeyRecords:
        return ApiKeyRecords(self._stores.tables, self._clock)

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self._stores.tables, self._stores.secrets, self._clock)

    # As whom and through what mail leaves, and to whom it does not

    @cached_property
    def senders(self) -> Senders:
        return Senders(self._stores.tables, self._clock)

    @cached_property
    def dkim(self) -> DkimKeys:
        return DkimKeys(self._stores.tables, self._stores.secrets)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self._stores.tables, self._stores.secrets, self._clock, default_url=self._settings.mail)

    @cached_property
    def suppression(self) -> SuppressionList:
        return SuppressionList(self._stores.tables, self._clock)

    # What is sent

    @cached_property
    def campaigns(self) -> Campaigns:
        return Campaigns(self._stores.tables, self._clock)

    @cached_property
    def streams(self) -> DailyStreams:
        return DailyStreams(self._stores.messages, self._stores.workflows, self._stores.queues)

    @cached_property
    def auto_suppression(self) -> AutoSuppression:
        return AutoSuppression(self._stores.messages, self.suppression, self.tenants, self._clock)

    @cached_property
    def bulk_update(self) -> BulkUpdate:
        stores, lease = self._stores, lease_ms(self._settings)
        return BulkUpdate(stores.messages, stores.journals, self._clock, lease_ms=lease, auto_suppression=self.auto_suppression)

    # What comes back, and whom it is told

    @cached_property
    def arrivals(self) -> InboundEventQueue:
        return InboundEventQueue(self._stores.queues)

    @cached_property
    def recounts(self) -> Recounts:
        return Recounts(self._stores.tables, self._stores.messages, self._clock)

    @cached_property
    def tally(self) -> RateRecorder:
        keep_ms = round(self._settings.guard_window * 1000) + 2 * MINUTE_MS
        return RateRecorder(self._stores.tables, self._clock, keep_ms=keep_ms)

    @cached_property
    def callbacks(self) -> CallbackEndpoints:
        return CallbackEndpoints(self._stores.tables, self.callback_secrets, self._clock)

    @cached_property
    def callback_secrets(self) -> CallbackSecrets:
        return CallbackSecrets(self._stores.tables, self._stores.secrets, self._clock)

    @cached_property
    def deliveries(self) -> CallbackDeliveries:
        return CallbackDeliveries(self._stores.tables, self._clock)


def lease_ms(settings: Settings) -> int:
    """How long a worker may be silent."""
    return round(settings.lease * 1000)
