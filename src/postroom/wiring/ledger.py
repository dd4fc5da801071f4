"""The ledger over the stores: who keeps which records, made once and handed to all that is put together on them."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is kept of whom."""

    # Who and whose
    tenants: Tenants
    memberships: Memberships
    keys: Keys
    audit: AuditLog

    # As whom and through what mail leaves, and to whom it does not
    senders: Senders
    dkim: DkimKeys
    providers: Providers
    suppression: Suppression

    # What is sent
    campaigns: Campaigns
    streams: Streams
    refusals: Refusals
    sweep: Sweep

    # What comes back, and whom it is told
    arrivals: Arrivals
    recounts: Recounts
    tally: Tally
    callbacks: Callbacks
    callback_secrets: CallbackSecrets
    deliveries: Deliveries


def ledger(settings: Settings, stores: Stores) -> Ledger:
    """Each with what it stands on."""
    clock, tables, messages = stores.clock, stores.tables, stores.messages
    tenants, suppression = Tenants(tables, clock), Suppression(tables, clock)
    refusals = Refusals(messages, suppression, tenants, clock)
    callback_secrets = CallbackSecrets(tables, stores.secrets, clock)
    return Ledger(
        tenants=tenants,
        memberships=Memberships(tables, clock),
        keys=Keys(tables, clock),
        audit=AuditLog(tables, stores.secrets, clock),
        senders=Senders(tables, clock),
        dkim=DkimKeys(tables, stores.secrets),
        providers=Providers(tables, stores.secrets, clock, default_url=settings.mail),
        suppression=suppression,
        campaigns=Campaigns(tables, clock),
        streams=Streams(messages, stores.workflows, stores.queues),
        refusals=refusals,
        sweep=Sweep(messages, stores.journals, clock, lease_ms=lease_ms(settings), refusals=refusals),
        arrivals=Arrivals(stores.queues),
        recounts=Recounts(tables, messages, clock),
        tally=Tally(tables, clock, keep_ms=round(settings.guard_window * 1000) + 2 * MINUTE_MS),
        callbacks=Callbacks(tables, callback_secrets, clock),
        callback_secrets=callback_secrets,
        deliveries=Deliveries(tables, clock),
    )


def lease_ms(settings: Settings) -> int:
    """How long a worker may be silent."""
    return round(settings.lease * 1000)
