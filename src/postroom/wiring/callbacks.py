"""Callbacks, put together: who follows the feed, and who makes the requests."""

from __future__ import annotations

from functools import cache, partial
from ssl import SSLContext
from typing import Final

from postroom.callbacks.consumer import DeliveryBuilder, FeedConsumer
from postroom.callbacks.dispatcher import CallbackDispatcher, Wakeups
from postroom.callbacks.endpoint_queues import EndpointQueues
from postroom.callbacks.endpoint_worker import EndpointWorker
from postroom.ledger.audit import AuditLog
from postroom.ledger.callback_deliveries import EndpointLeases
from postroom.model.audit import AuditRecord
from postroom.model.callback import CallbackEndpoint
from postroom.model.campaign import CampaignRef
from postroom.platform.web.client import WebClient, trusting_context
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores

_DONE: Final = 200


def callback_workers(
    settings: Settings, stores: Stores, ledger: Ledger, builder: DeliveryBuilder
) -> tuple[FeedConsumer, EndpointQueues]:
    """For one process on one machine."""
    follower = FeedConsumer(
        stores.feed,
        builder,
        tables=stores.tables,
        campaign_of=_campaign_of,
        owner=stores.clock.random(8).hex(),
        clock=stores.clock,
    )
    return follower, EndpointQueues(ledger.deliveries, lane_work(settings, stores, ledger), stores.clock)


def callback_dispatcher(settings: Settings, stores: Stores, ledger: Ledger) -> CallbackDispatcher:
    """For one process among many that come and go."""
    turns = EndpointLeases(stores.tables, stores.clock)
    return CallbackDispatcher(
        ledger.deliveries, turns, partial(lane_work, settings, stores, ledger), wakeups=Wakeups(stores.queues), clock=stores.clock
    )


def lane_work(settings: Settings, stores: Stores, ledger: Ledger) -> EndpointWorker:
    """Who makes the requests."""
    return EndpointWorker(
        ledger.callbacks,
        ledger.deliveries,
        ledger.campaigns,
        connect=partial(WebClient, networks=settings.callback_networks, context=_trusting()),
        on_disabled=partial(_switched_off, ledger.audit),
        clock=stores.clock,
    )


@cache
def _trusting() -> SSLContext:
    """One that all share: making one takes some milliseconds and a megabyte."""
    return trusting_context()


def _switched_off(audit: AuditLog, endpoint: CallbackEndpoint) -> None:
    """In the tenant's audit trail, where whoever wonders will look."""
    audit.write(
        endpoint.tenant,
        AuditRecord(
            id=audit.new_id(),
            actor="callbacks:callbacks",
            name="the callback service",
            address="",
            action="callbacks switch off",
            target=f"callback/{endpoint.id}",
            reason=endpoint.disabled_reason,
            status=_DONE,
        ),
    )


def _campaign_of(shard: str) -> CampaignRef:
    """On one machine each shard is a home's ledger (embedded.feed)."""
    tenant, _, campaign = shard.partition("/")
    return CampaignRef(tenant, campaign)
