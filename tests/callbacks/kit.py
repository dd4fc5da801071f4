"""Callbacks over the real embedded stores: a campaign whose mail went out, and servers that answer as they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from postroom.callbacks.consumer import DeliveryBuilder, FeedConsumer
from postroom.callbacks.dispatcher import CallbackDispatcher, Wakeups
from postroom.callbacks.endpoint_queues import EndpointQueues
from postroom.callbacks.endpoint_worker import EndpointWorker
from postroom.errors import Unavailable
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointLeases
from postroom.ledger.callback_endpoints import CallbackEndpoints, CallbackSecrets, EndpointSettings
from postroom.model.callback import CallbackEndpoint
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.platform.embedded.feed import SqliteFeed
from tests.events.feedback_kit import FeedbackSetup
from tests.fakes.faults import Faults
from tests.fakes.ledger import Bench
from tests.fakes.secrets import PlainSecrets

SECRET = b"s" * 32
ALL = frozenset(EventKind)


class Reply(NamedTuple):
    """An answer."""

    status: int = 200
    text: str = "ok"
    retry_after_s: float | None = None
    took_ms: int = 3


class Asked(NamedTuple):
    """A request as it came in."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Web:
    """Every server there is: answers by URL."""

    replies: dict[str, Reply | Exception] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """URLs whose answers wait."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.asked.append(Asked(url, headers, body))
        if url in self.held:
            await self.held[url].wait()
        reply = self.replies.get(url, Reply())
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        pass

    def of(self, url: str) -> list[Asked]:
        """What one was asked."""
        return [each for each in self.asked if each.url == url]


class CallbackSetup:
    """Follower and lanes over a bench. `faults` counts their calls of the stores."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.post = FeedbackSetup(made)
        self.web = Web()
        self.switched_off: list[CallbackEndpoint] = []
        tables = faults.wrap(made.tables)
        self.callbacks = CallbackEndpoints(tables, CallbackSecrets(tables, PlainSecrets(), made.clock), made.clock)
        self.deliveries = CallbackDeliveries(tables, made.clock)
        self.builder = DeliveryBuilder(made.messages, self.callbacks, self.deliveries, campaigns=made.campaigns, clock=made.clock)
        self.consumer = FeedConsumer(
            faults.wrap(SqliteFeed(made.ledgers)),
            self.builder,
            tables=tables,
            campaign_of=lambda shard: CampaignRef(*shard.split("/")),
            owner="me",
            clock=made.clock,
        )
        self.lanes = EndpointQueues(self.deliveries, self.work(), made.clock)
        self.wakes = Wakeups(faults.wrap(made.queues))
        self.dispatcher = CallbackDispatcher(
            self.deliveries, EndpointLeases(tables, made.clock), self.work, wakeups=self.wakes, clock=made.clock
        )

    def work(self) -> EndpointWorker:
        """Of one process."""
        return EndpointWorker(
            self.callbacks,
            self.deliveries,
            self.made.campaigns,
            connect=lambda: self.web,
            on_disabled=self.switched_off.append,
            clock=self.made.clock,
        )

    def endpoint(self, name: str = "hook", *, kinds: frozenset[EventKind] = ALL, batch: bool = False) -> CallbackEndpoint:
        """Of the tenant `default`."""
        wishes = EndpointSettings(url=f"https://{name}.example/", kinds=kinds, batch=batch)
        return self.callbacks.create("default", wishes, id=name, secret=SECRET)

    def follow(self) -> None:
        """Until nothing new is found."""
        self.made.clock.advance(100)  # past what the follower remembers, and its pauses
        while self.consumer.once():
            pass

    def tell(self) -> None:
        """Make every request that is due now."""
        asyncio.run(self.lanes.drain())

    def tell_for(self, seconds: float, *, step: float = 60.0) -> None:
        """As time goes by."""
        for _ in range(round(seconds / step)):
            self.made.clock.advance(step)
            self.tell()


def unreachable() -> Exception:
    """What no answer is."""
    return Unavailable("ConnectError: refused")
