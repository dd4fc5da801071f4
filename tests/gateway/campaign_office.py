"""Campaigns behind a door: the real services on the embedded stores, a template and uploads that are simply there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import APIRouter
from fastapi.testclient import TestClient

from postroom.clock import Clock
from postroom.delivery.compose import ContentCompiler
from postroom.errors import Denied, Invalid, NotFound
from postroom.gateway.routes.campaign_status import StatusCache, status_routes
from postroom.gateway.routes.campaigns import CampaignServices, campaign_message_routes, campaign_routes
from postroom.ledger.batches import BatchLeases
from postroom.ledger.bulk_update import BulkUpdate
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.streams import DailyStreams
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign, CampaignRef, Policies
from postroom.model.message import MessageStatus, Settlement
from postroom.model.template import TemplateContent
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.pipeline.scheduler import Scheduler
from postroom.pipeline.splitter import Splitter
from postroom.platform.embedded.objects import FileObjects
from postroom.services.campaign_actions import CampaignActions
from postroom.services.campaign_creation import CampaignCreator, CampaignDefaults, CampaignRequests, CampaignSources
from postroom.services.campaigns import ACTION, CampaignEditor, CampaignReader, CampaignService
from postroom.services.dry_run import DryRun
from postroom.services.exports import CampaignExports
from postroom.services.status import StatusService
from tests.fakes.ledger import Bench, bench
from tests.gateway.kit import client_of

TEMPLATE = "tttttttttttttttt"
HTML = "<p>Hello {{ first_name }} of {{ city }}</p><a href='https://example.com/'>x</a>"
PEOPLE = b"E-Mail,Vorname\r\nann@a.example,Ann\r\nbob@a.example,Bob\r\nnobody,Eve\r\nann@a.example,Again\r\n"
TENANT = "default"


class Office:
    """Everything behind the door."""

    def __init__(self, made: Bench, objects: FileObjects) -> None:
        clock: Clock = made.clock
        self.made = made
        self.objects = objects
        self.tenants = Tenants(made.tables, clock)
        self.suppression = SuppressionList(made.tables, clock)
        composing = ContentCompiler(self.tenants, objects, public_url="https://mail.example.com", bounce_domain=None)
        creator = CampaignCreator(made.campaigns, composing=composing, objects=objects, workflows=made.workflows, clock=clock)
        self.campaigns = CampaignService(
            made.campaigns,
            creator=creator,
            messages=made.messages,
            objects=objects,
            journals=made.journals,
            queues=made.queues,
            timers=made.timers,
            workflows=made.workflows,
            bulk_update=BulkUpdate(made.messages, made.journals, clock, lease_ms=1_000),
            deliveries=CallbackDeliveries(made.tables, clock),
            clock=clock,
        )
        self.versions = [TemplateContent(TEMPLATE, 1, "Hi {{ first_name }}", HTML, None)]
        self.uploads: dict[str, ReadyUpload] = {}
        sources = CampaignSources(self._content, self._ready, check_sender, check_provider)
        defaults = CampaignDefaults(Policies(rate=7.0), 3_600_000)
        self.requests = CampaignRequests(creator, sources, objects=objects, clock=clock, defaults=defaults)
        self.changes = CampaignActions(
            self.campaigns, made.campaigns, messages=made.messages, workflows=made.workflows, clock=clock
        )
        self.status = StatusService(made.campaigns, made.messages, clock)
        self.board = StatusCache(self.status, clock, pause=self._pause)
        self.desk = CampaignServices(
            campaigns=self.campaigns,
            requests=self.requests,
            edits=CampaignEditor(made.campaigns, made.queues, clock, grace_ms=3_600_000),
            changes=self.changes,
            dry_run=DryRun(composing=composing, objects=objects, suppression=self.suppression, tenants=self.tenants, clock=clock),
            changed=self.board.forget,
        )
        self.reading = CampaignReader(made.campaigns, made.messages)
        self.exports = CampaignExports(made.campaigns, made.messages, objects)
        self.put("uuuuuuuuuuuuuuuu", PEOPLE)

    def routes(self) -> list[APIRouter]:
        return [
            campaign_routes(self.desk),
            campaign_message_routes(self.reading, self.exports),
            status_routes(self.board),
        ]

    def client(self, role: str = "sender", tenant: str = TENANT) -> TestClient:
        return client_of(self.routes(), role, tenant)

    def put(self, upload: str, content: bytes, kind: UploadKind = UploadKind.RECIPIENTS) -> None:
        info = self.objects.put(f"{TENANT}/uploads/{upload}", content)
        self.uploads[upload] = ReadyUpload(upload, kind, info.key, info.version, "people.csv", "text/csv", info.size)

    def order(self, **fields: object) -> dict[str, object]:
        """The body of a call that works."""
        return {
            "name": "Autumn",
            "template_id": TEMPLATE,
            "upload_id": "uuuuuuuuuuuuuuuu",
            "from": "News <news@example.com>",
            "columns": {"first_name": "Vorname"},
            "variables": {"city": "Springfield"},
            **fields,
        }

    def imported(self, ref: CampaignRef) -> Campaign:
        """As far as it comes before it sends."""
        Splitter(
            campaigns=self.made.campaigns,
            messages=self.made.messages,
            objects=self.objects,
            suppression=self.suppression,
            tables=self.made.tables,
            tenants=self.tenants,
            clock=self.made.clock,
        ).run(ref, alive=lambda: True)
        return self.scheduled(ref)

    def scheduled(self, ref: CampaignRef) -> Campaign:
        """Once the scheduler has looked."""
        made = self.made
        streams = DailyStreams(made.messages, made.workflows, made.queues)
        Scheduler(made.campaigns, streams, timers=made.timers, workflows=made.workflows, clock=made.clock).look(ref)
        return made.campaigns.get(ref)

    def carry_out(self) -> int:
        """What workers do of the changes that were asked for; how many they were."""
        done = 0
        while self.made.workflows.run_due(ACTION, self.changes.handle, "worker", lease_ms=60_000):
            done += 1
        return done

    def settle(self, ref: CampaignRef, state: MessageStatus, limit: int = 1_000) -> None:
        """Every message in one state, by a worker that then lets go."""
        batches = BatchLeases(self.made.messages, self.made.journals, self.made.clock, lease_ms=1_000)
        now = self.made.clock.now()
        for number in range(self.made.campaigns.get(ref).source.batches):
            opened = batches.open(ref, number, "worker")
            assert opened is not None
            work = self.made.messages.load(ref, number, now, limit)
            settled = [Settlement(r.key, state, r.attempt + 1, now, code=550, reply="=no") for r in work]
            batches.record(ref, opened, settled, ())
            batches.finish(ref, opened)

    async def _pause(self, seconds: float) -> None:
        self.made.clock.advance(seconds)

    def _content(self, tenant: str, template: str, version: int | None) -> TemplateContent:
        if tenant != TENANT or template != TEMPLATE or (version or 1) > len(self.versions):
            raise NotFound(f"there is no template {template}")
        return self.versions[(version or len(self.versions)) - 1]

    def _ready(self, tenant: str, upload: str, kind: UploadKind) -> ReadyUpload:
        found = self.uploads.get(upload)
        if tenant != TENANT or found is None:
            raise NotFound(f"there is no upload {upload}")
        if found.kind is not kind:
            raise Invalid(f"the upload {upload} is of kind {found.kind}")
        return found


def check_sender(tenant: str, from_: str) -> None:
    if "example.com" not in from_:
        raise Denied(f"{from_} is no sender of yours")


def check_provider(tenant: str, provider: str) -> None:
    if provider not in {"default", "relay"}:
        raise NotFound(f"there is no provider {provider}")


@contextmanager
def office(root: Path) -> Iterator[Office]:
    """Its files are closed at the end."""
    with bench(root) as made:
        objects = FileObjects(root / "objects", made.clock)
        yield Office(made, objects)
        objects.close()
