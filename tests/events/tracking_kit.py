"""Pixels and links of campaigns on the real embedded stores, and somebody who fetches them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from postroom.clock import SystemClock
from postroom.delivery.tracking import links_key
from postroom.delivery.transactional import content_links_key as single_links_key
from postroom.events.machine_detection import TrackingRequest
from postroom.events.tracking import LinkTableCache, TenantSecretCache, Tracking
from postroom.events.tracking_buffer import TrackingBuffer
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent, InboundEventQueue, parse_inbound_events
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.model.stream import TransactionalValues, stream_ref
from postroom.model.tokens import TokenSealer
from postroom.platform.embedded.objects import FileObjects
from tests.fakes.faults import Faults
from tests.fakes.ledger import Bench

CAMPAIGN = "a" * 16
ANNA = Key(b"a" * 12)
BROWSER = TrackingRequest("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")


class Web:
    """`asked` counts every call of a store."""

    def __init__(self, made: Bench, root: Path, *, most_links: int = 1_000_000) -> None:
        self.made = made
        self.tenants = Tenants(made.tables, made.clock)
        self.tenant = self.tenants.get("default")
        self.objects = FileObjects(root / "objects", SystemClock())
        self.asked = Faults()
        tenants = Tenants(self.asked.wrap(made.tables), made.clock)
        messages, objects = self.asked.wrap(made.messages), self.asked.wrap(self.objects)
        self.links = LinkTableCache(tenants, messages, objects, most=most_links)
        self.hits = TrackingBuffer(InboundEventQueue(made.queues), flush_s=3_600.0)
        self.tracking = Tracking(TenantSecretCache(tenants, made.clock), self.links, self.hits, made.clock)

    def close(self) -> None:
        self.hits.close()
        self.objects.close()

    def sealer(self, campaign: str = CAMPAIGN) -> TokenSealer:
        return TokenSealer(self.tenant, campaign)

    def token(self, campaign: str = CAMPAIGN, *, key: Key = ANNA, batch: int = 3, attempt: int = 1) -> str:
        return self.sealer(campaign).recipient(batch, key, attempt)

    def table(self, links: Sequence[str], campaign: str = CAMPAIGN) -> None:
        """The campaign's link table, as its making stores it."""
        self.objects.put(links_key(CampaignRef("default", campaign)), msgspec.json.encode(links))

    def single(self, links: Sequence[str], digest: str = "d" * 64) -> str:
        """A single message with such links: its token."""
        ref = stream_ref(self.tenant, 20_000)
        values = TransactionalValues(digest, {}, self.made.clock.now()).text()
        self.made.messages.create(ref, 32)
        self.made.messages.store(ref, [MessageRow(3, ANNA, 1, "anna@mail.example", None, values)], self.made.clock.now())
        self.objects.put(single_links_key(ref, digest), msgspec.json.encode(links))
        return self.token(ref.campaign)

    def arrived(self) -> list[InboundEvent]:
        """What was told since the last look."""
        self.hits.close()
        found: list[InboundEvent] = []
        while items := self.made.queues.receive(FEEDBACK_QUEUE, limit=10):
            for item in items:
                found += parse_inbound_events(item.body)
                self.made.queues.delete(FEEDBACK_QUEUE, item.receipt)
        return found
