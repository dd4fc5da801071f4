"""An installation on the real embedded stores in which one person, Anna, has left traces everywhere."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from postroom.clock import Instant, rfc3339
from postroom.ledger.audit import AuditLog
from postroom.ledger.batches import BatchLeases
from postroom.ledger.bulk_update import BulkUpdate, MessageEraser
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, CallbackEndpoints, CallbackSecrets, EndpointSettings
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.model.batch import batch_of
from postroom.model.callback import CallbackDelivery, EventPayload, batch_payload, event_payload
from postroom.model.campaign import Campaign, CampaignRef, CampaignSpec, CampaignStatus, Content
from postroom.model.event import EventKind
from postroom.model.ids import Key, inbox_object_key, new_mail_id
from postroom.model.message import Message, MessageStatus, Settlement
from postroom.model.upload import UploadKind
from postroom.pipeline.splitter import Splitter
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.services.campaign_creation import CampaignCreator, CampaignParts
from postroom.services.campaigns import CampaignService
from postroom.services.erasure import ErasureService, ErasureStores
from postroom.services.suppression import SuppressionLists
from postroom.services.uploads import Announcement, UploadService, UploadUsage
from tests.fakes.faults import Faults
from tests.fakes.secrets import PlainSecrets
from tests.fakes.transactional import TransactionalBench, request, transactional_bench

ANNA, BOB = "anna@mail.example", "bob@mail.example"
LEASE_MS = 1_000
CSV = b"email,name\nAnna@Mail.example,Anna\nbob@mail.example,Bob\nanna@mail.example,Anna again\nnobody,Nobody\n"


class House:
    """See the module's text."""

    def __init__(self, made: TransactionalBench) -> None:
        self.desk, self.stores, self.clock, self.objects = made, made.made, made.clock, made.objects
        self.tenants, self.suppression = made.tenants, made.suppression
        self.lists = SuppressionLists(made.suppression, made.tenants, made.clock).for_tenant("default")
        self.audit = AuditLog(self.stores.tables, PlainSecrets(), self.clock)
        self.bulk_update = BulkUpdate(self.stores.messages, self.stores.journals, self.clock, lease_ms=LEASE_MS)
        self.creator = CampaignCreator(
            self.stores.campaigns,
            composing=made.composing,
            objects=made.objects,
            workflows=self.stores.workflows,
            clock=self.clock,
        )
        self.campaigns = CampaignService(
            self.stores.campaigns,
            creator=self.creator,
            messages=self.stores.messages,
            objects=made.objects,
            journals=self.stores.journals,
            queues=self.stores.queues,
            timers=self.stores.timers,
            workflows=self.stores.workflows,
            bulk_update=self.bulk_update,
            deliveries=CallbackDeliveries(self.stores.tables, self.clock),
            clock=self.clock,
        )
        self.splitter = Splitter(
            campaigns=self.stores.campaigns,
            messages=self.stores.messages,
            objects=made.objects,
            suppression=made.suppression,
            tables=self.stores.tables,
            tenants=made.tenants,
            clock=self.clock,
        )
        transfers = HttpTransfers(
            made.objects, self.stores.tables, PlainSecrets(), api_base_url="http://door.example", clock=self.clock
        )
        self.uploads = UploadService(
            self.stores.tables,
            made.objects,
            transfers,
            self.clock,
            upload_days=30,
            in_use=UploadUsage(self.stores.campaigns),
        )
        self.service = self.erasure(Faults())
        self.anna = self.service.key_of("default", ANNA)

    def erasure(self, faults: Faults) -> ErasureService:
        """Whose every call to a store passes `faults`."""
        tables, objects, messages = (
            faults.wrap(self.stores.tables),
            faults.wrap(self.objects),
            faults.wrap(self.stores.messages),
        )
        places = ErasureStores(
            campaigns=Campaigns(tables, self.clock),
            messages=messages,
            objects=objects,
            uploads=UploadService(
                tables,
                objects,
                HttpTransfers(
                    self.objects, self.stores.tables, PlainSecrets(), api_base_url="http://door.example", clock=self.clock
                ),
                self.clock,
                upload_days=30,
                in_use=UploadUsage(self.stores.campaigns),
            ),
            suppression=SuppressionList(tables, self.clock),
            workflows=self.stores.workflows,
            erasing=MessageEraser(
                messages, BulkUpdate(messages, self.stores.journals, self.clock, lease_ms=LEASE_MS), self.clock
            ),
            callbacks=CallbackEndpoints(tables, CallbackSecrets(tables, PlainSecrets(), self.clock), self.clock),
            deliveries=CallbackDeliveries(tables, self.clock),
        )
        audit = AuditLog(tables, PlainSecrets(), self.clock)
        return ErasureService(places, tables=tables, tenants=self.tenants, audit=audit, clock=self.clock)

    def campaign(self, content: bytes = CSV, *, imported: bool = True, start: bool = False) -> Campaign:
        """A campaign with its own recipients file."""
        self.clock.advance(0.01)
        spec = CampaignSpec(name="Autumn", content=Content(from_="News <news@shop.example>", subject="Hi"))
        parts = CampaignParts(html="<p>Hello {{ name }}</p>")
        made = self.creator.create("default", spec, parts, io.BytesIO(content), filename="people.csv", start=start)
        if imported:
            self.imported(made.ref)
        return self.stores.campaigns.get(made.ref)

    def imported(self, ref: CampaignRef) -> None:
        """As the importing worker does it."""
        self.splitter.run(ref, alive=lambda: True)
        self.stores.workflows.stop("import", ref.campaign, "done")

    def settle(self, ref: CampaignRef, settlement: Settlement) -> None:
        """As a sending worker would, that then lets go."""
        batches = BatchLeases(self.stores.messages, self.stores.journals, self.clock, lease_ms=LEASE_MS)
        batch = batch_of(settlement.key, len(self.stores.messages.batches(ref, limit=1_000)))
        opened = batches.open(ref, batch, "worker")
        assert opened is not None
        batches.finish(ref, opened, [settlement])

    def sent(self, ref: CampaignRef, key: Key, state: MessageStatus = MessageStatus.SENT, reply: str = f"250 for {ANNA}") -> None:
        self.settle(ref, Settlement(key, state, 1, self.clock.now(), code=250, reply=reply, provider_id="p1"))

    def message(self, ref: CampaignRef, key: Key | None = None) -> Message:
        found = self.stores.messages.get(ref, 0, key or self.anna)
        assert found is not None
        return found

    def upload(self, content: bytes = CSV) -> str:
        """A recipients file that has arrived; its id."""
        self.clock.advance(0.01)
        what = Announcement(UploadKind.RECIPIENTS, "people.csv", "text/csv", len(content))
        made = self.uploads.create("default", self.uploads.new_id(), what, author="ann@shop.example").upload
        self.objects.put(made.object_key, content, content_type="text/csv", if_absent=True)
        return made.id

    def mail(self, to: str) -> str:
        """In the inbox; its object's key."""
        key = inbox_object_key(new_mail_id(self.clock.now(), self.clock.random(5)))
        self.objects.put(key, f"Return-Path: <>\r\nDelivered-To: {to}\r\nSubject: Hi\r\n\r\nHello\r\n".encode())
        return key

    def everywhere(self) -> Campaign:
        """Anna, in every place there is; and Bob."""
        self.lists.add(ANNA, reason=SuppressionReason.COMPLAINT, note=f"{ANNA} wrote")
        suppressed = self.campaign()
        assert suppressed.source.suppressed
        self.lists.remove(ANNA)
        campaign = self.campaign()
        self.sent(campaign.ref, self.anna, MessageStatus.BOUNCED)
        self.lists.add(ANNA, reason=SuppressionReason.COMPLAINT, note=f"{ANNA} wrote")
        self.lists.remove(ANNA)
        self.desk.accept(request(f"Anna <{ANNA}>"), request(BOB, variables={"name": "Bob", "code": 1}))
        self.lists.add(ANNA, reason=SuppressionReason.COMPLAINT, note=f"{ANNA} wrote")
        self.upload()
        self.mail(ANNA)
        self.mail(BOB)
        self.told("hook", ANNA, BOB)
        return campaign

    def told(self, endpoint: str, *addresses: str) -> None:
        """A callback that is told of events of these people, each alone and all together."""
        callbacks = CallbackEndpoints(
            self.stores.tables, CallbackSecrets(self.stores.tables, PlainSecrets(), self.clock), self.clock
        )
        if not endpoint.startswith(CAMPAIGN_PREFIX):
            wishes = EndpointSettings(url="https://hook.example/", kinds=frozenset(EventKind))
            callbacks.create("default", wishes, id=endpoint, secret=b"s" * 32)
        told, now = [told_of(address, self.clock.now()) for address in addresses], self.clock.now()
        bodies = [*told, batch_payload(told, "2026-01-01T00:00:00Z")]
        CallbackDeliveries(self.stores.tables, self.clock).add(
            [
                CallbackDelivery(
                    id=str(number),
                    endpoint=endpoint,
                    tenant="default",
                    body=json.dumps(body),
                    created_at=now,
                    since=now,
                    due=now,
                    last_text=f"no {ANNA} here" if ANNA in json.dumps(body) else "",
                )
                for number, body in enumerate(bodies)
            ]
        )

    def traces(self) -> list[str]:
        """Where Anna can still be read."""
        found = []
        for ref in self.stores.ledgers.refs():
            found += [f"ledger {ref.campaign}" for message in self._messages(ref) if "anna" in repr(message).lower()]
        for info in self.objects.list(limit=1_000).objects:
            for version in self.objects.versions(info.key):
                if b"anna" in self.objects.get(info.key, version.version).lower():
                    found.append(f"object {info.key}")
        with self.stores.control.read() as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                rows = db.execute(f"SELECT * FROM {table}").fetchall()
                found += [f"table {table}" for row in rows if "anna" in repr(row).lower()]
        return found

    def _messages(self, ref: CampaignRef) -> Iterator[object]:
        yield from self.stores.messages.list(ref, limit=1_000).messages
        with self.stores.ledgers.get(ref).read() as db:
            yield from db.execute("SELECT changes FROM feed").fetchall()


def told_of(address: str, at: Instant) -> dict[str, Any]:
    """What a callback is told of a click of this person."""
    told = EventPayload(
        event_id="c",
        message_id="m",
        campaign_id=None,
        recipient=address,
        sequence=1,
        attempt=1,
        status="sent",
        machine=False,
        bounce=None,
        url=f"https://shop.example/?who={address}",
        detail=f"agent of {address}",
    )
    return event_payload(EventKind.CLICKED, rfc3339(at) or "", told)


@contextmanager
def house(root: Path) -> Iterator[House]:
    """A house whose files are closed at the end."""
    with transactional_bench(root) as made:
        yield House(made)


__all__ = ["ANNA", "BOB", "CSV", "CampaignStatus", "House", "house"]
