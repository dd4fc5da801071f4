"""The ledger over the stores: who keeps which records, each made when it is first asked for and then the same for all."""

from __future__ import annotations

from functools import cached_property

from postroom.ledger.access import Memberships
from postroom.ledger.arrivals import Arrivals
from postroom.ledger.audit import AuditLog
from postroom.ledger.callback_secrets import CallbackSecrets
from postroom.ledger.callbacks import Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.keys import Keys
from postroom.ledger.providers import Providers
from postroom.ledger.recounts import Recounts
from postroom.ledger.refusals import Refusals
from postroom.ledger.senders import Senders
from postroom.ledger.streams import Streams
from postroom.ledger.suppression import Suppression
from postroom.ledger.sweep import Sweep
from postroom.ledger.tallies import MINUTE_MS, Tally
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
    def keys(self) -> Keys:
        return Keys(self._stores.tables, self._clock)

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
    def suppression(self) -> Suppression:
        return Suppression(self._stores.tables, self._clock)

    # What is sent

    @cached_property
    def campaigns(self) -> Campaigns:
        return Campaigns(self._stores.tables, self._clock)

    @cached_property
    def streams(self) -> Streams:
        return Streams(self._stores.messages, self._stores.workflows, self._stores.queues)

    @cached_property
    def refusals(self) -> Refusals:
        return Refusals(self._stores.messages, self.suppression, self.tenants, self._clock)

    @cached_property
    def sweep(self) -> Sweep:
        stores, lease = self._stores, lease_ms(self._settings)
        return Sweep(stores.messages, stores.journals, self._clock, lease_ms=lease, refusals=self.refusals)

    # What comes back, and whom it is told

    @cached_property
    def arrivals(self) -> Arrivals:
        return Arrivals(self._stores.queues)

    @cached_property
    def recounts(self) -> Recounts:
        return Recounts(self._stores.tables, self._stores.messages, self._clock)

    @cached_property
    def tally(self) -> Tally:
        keep_ms = round(self._settings.guard_window * 1000) + 2 * MINUTE_MS
        return Tally(self._stores.tables, self._clock, keep_ms=keep_ms)

    @cached_property
    def callbacks(self) -> Callbacks:
        return Callbacks(self._stores.tables, self.callback_secrets, self._clock)

    @cached_property
    def callback_secrets(self) -> CallbackSecrets:
        return CallbackSecrets(self._stores.tables, self._stores.secrets, self._clock)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self._stores.tables, self._clock)


def lease_ms(settings: Settings) -> int:
    """How long a worker may be silent."""
    return round(settings.lease * 1000)
