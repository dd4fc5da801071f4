"""Callbacks, put together: who follows the feed, and who makes the requests."""

from __future__ import annotations

from functools import partial
from typing import Final

from postroom.events.callbacks.follower import Follower
from postroom.events.callbacks.lanes import Lanes
from postroom.ledger.audit import AuditLog
from postroom.model.audit import Entry
from postroom.model.callback import Endpoint
from postroom.model.campaign import Home
from postroom.platform.web.caller import WebCaller, trusting_context
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores

_DONE: Final = 200


def callback_lines(settings: Settings, stores: Stores, ledger: Ledger) -> tuple[Follower, Lanes]:
    """For one process."""
    follower = Follower(
        stores.feed,
        stores.messages,
        ledger.callbacks,
        ledger.deliveries,
        campaigns=ledger.campaigns,
        tables=stores.tables,
        home_of=_home_of,
        owner=stores.clock.random(8).hex(),
        clock=stores.clock,
    )
    lanes = Lanes(
        ledger.callbacks,
        ledger.deliveries,
        ledger.campaigns,
        caller=partial(WebCaller, networks=settings.callback_networks, context=trusting_context()),
        disabled=partial(_switched_off, ledger.audit),
        clock=stores.clock,
    )
    return follower, lanes


def _switched_off(audit: AuditLog, endpoint: Endpoint) -> None:
    """In the tenant's audit trail, where whoever wonders will look."""
    audit.write(
        endpoint.tenant,
        Entry(
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


def _home_of(shard: str) -> Home:
    """On one machine each shard is a home's ledger (embedded.feed)."""
    tenant, _, campaign = shard.partition("/")
    return Home(tenant, campaign)
