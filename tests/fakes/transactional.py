"""Transactional messages on the real embedded stores: the service, and a sender whose mailers do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from postroom.clock import Clock
from postroom.delivery.compose import ContentCompiler
from postroom.delivery.transactional import ContentStore, TransactionalCompiler
from postroom.errors import Denied, NotFound
from postroom.ledger.auto_suppression import AutoSuppression
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.rate_windows import RateRecorder
from postroom.ledger.streams import DailyStreams
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import CampaignRef
from postroom.model.message import Message
from postroom.model.stream import day_of, stream_ref
from postroom.model.template import TemplateContent
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.pipeline.sender.context import StopSignal
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.worker import Sender, SenderOptions, SenderStores
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.mail.port import Mailer
from postroom.platform.ports.rates import RateLimit
from postroom.services.message_acceptance import AcceptedMessage, MessageAcceptance, MessageRequest, RefusedMessage
from postroom.services.messages import MessageService, MessageSources
from tests.fakes.ledger import Bench, bench
from tests.fakes.mailer import ScriptedMailer
from tests.fakes.secrets import PlainSecrets

HTML = "<p>Hello {{ name }}, code {{ code }}.</p>"
LEASE_MS = 10_000
PUBLIC_URL = "https://mail.example.com"


def request(to: str = "anna@example.org", **fields: Any) -> MessageRequest:
    """A message that is in order."""
    usual = {"from_": "Shop <orders@shop.example>", "subject": "Code {{ code }}", "html": HTML}
    return MessageRequest(**{**usual, "to": to, "variables": {"name": "Anna", "code": 4711}, **fields})


class TransactionalBench:
    """A tenant, its daily stream, and everything needed to accept and send transactional messages."""

    def __init__(self, made: Bench, root: Path, *, public_url: str | None = None) -> None:
        self.made, self.clock = made, made.clock
        self.objects = FileObjects(root / "objects", made.clock)
        self.rates = SqliteRates(root / "rates.db")
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = SuppressionList(made.tables, made.clock)
        self.tally = RateRecorder(made.tables, made.clock, keep_ms=3_600_000)
        self.keys = DkimKeys(made.tables, PlainSecrets())
        self.composing = ContentCompiler(self.tenants, self.objects, public_url=public_url, bounce_domain=None, keys=self.keys)
        self.templates: dict[str, TemplateContent] = {}
        self.uploads: dict[str, ReadyUpload] = {}
        self.mailer = ScriptedMailer()
        self.mailers: Callable[[], Mailer] = lambda: self.mailer
        self.limit = RateLimit()
        self.provider = "default"
        self.config_version = 1
        self.relay_signs = False
        self.build(made)

    def build(self, stores: Bench) -> None:
        """The service and the sender over these stores, which may be wrapped."""
        self.streams = DailyStreams(stores.messages, stores.workflows, stores.queues)
        self.contents, self.singles = (
            ContentStore(self.objects),
            TransactionalCompiler(self.composing, self.tenants, self.objects),
        )
        self.service = MessageService(
            MessageSources(contents=self._content, check_sender=self._check, ready=self._ready),
            MessageAcceptance(stores.messages, self.streams, self.clock),
            contents=self.contents,
            singles=self.singles,
            messages=stores.messages,
            suppression=self.suppression,
            tenants=self.tenants,
            clock=self.clock,
        )

    def sender(self, clock: Clock | None = None) -> Sender:
        """One worker's."""
        made = self.made
        stores = SenderStores(
            campaigns=made.campaigns,
            compiler=self.composing,
            suppression=self.suppression,
            completion=made.finish,
            messages=made.messages,
            journals=made.journals,
            rates=self.rates,
            tenants=self.tenants,
            streams=self.streams,
            contents=self.contents,
            transactional=self.singles,
            auto_suppression=AutoSuppression(made.messages, self.suppression, self.tenants, self.clock),
            rate_recorder=self.tally,
        )
        return Sender(
            stores,
            lambda _tenant, provider: ProviderRoute(provider, self.limit, self.mailers, self.config_version, self.relay_signs),
            SenderOptions(workers=1, lease_ms=LEASE_MS, drain_s=1),
            single_provider=lambda _tenant: self.provider,
            clock=clock or self.clock,
        )

    def submit(
        self, *requests: MessageRequest, seed: str | None = None, tenant: str = "default"
    ) -> list[AcceptedMessage | RefusedMessage]:
        return self.service.submit(tenant, requests, seed=seed or self.service.new_seed())

    def accept(self, *requests: MessageRequest, tenant: str = "default") -> list[AcceptedMessage]:
        """All of them."""
        results = self.submit(*requests, tenant=tenant)
        accepted = [result for result in results if isinstance(result, AcceptedMessage)]
        assert len(accepted) == len(requests), results
        return accepted

    def message(self, accepted: AcceptedMessage) -> Message:
        return self.service.get("default", accepted.id).message

    @property
    def ref(self) -> CampaignRef:
        return stream_ref(self.tenants.get("default"), day_of(self.clock.now()))

    def states(self) -> list[str]:
        """Of all messages of the day."""
        return sorted(record.message.status.label for record in self.service.list("default", self.service.today()).records)

    async def send_until(
        self,
        condition: Callable[[], bool],
        *,
        sender: Sender | None = None,
        after: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Work on the stream until the condition holds, do what comes after that, then stop."""
        stopping = asyncio.Event()
        sending = asyncio.create_task((sender or self.sender()).send_stream(self.ref, StopSignal(stopping), lambda _reason: None))
        try:
            async with asyncio.timeout(20):
                while not condition() and not sending.done():
                    await asyncio.sleep(0.005)
                assert condition()
                if after is not None:
                    await after()
        finally:
            stopping.set()
            await sending

    def send(self, condition: Callable[[], bool]) -> None:
        """The same, from a test that is no coroutine."""
        asyncio.run(self.send_until(condition))

    def template(self, id: str, *, version: int = 1, **fields: Any) -> None:  # noqa: A002
        self.templates[id] = TemplateContent(id, version, **{"subject": "Code {{ code }}", "html": HTML, "text": None, **fields})

    def upload(self, id: str, content: bytes, *, filename: str = "terms.pdf", content_type: str = "application/pdf") -> None:  # noqa: A002
        info = self.objects.put(f"default/uploads/{id}", content)
        self.uploads[id] = ReadyUpload(id, UploadKind.ASSET, info.key, info.version, filename, content_type, info.size)

    def close(self) -> None:
        self.rates.close()
        self.objects.close()

    def _content(self, tenant: str, template_id: str, version: int | None) -> TemplateContent:
        found = self.templates.get(template_id)
        if found is None or tenant != "default" or version not in (None, found.version):
            raise NotFound(f"there is no template {template_id!r}")
        return replace(found)

    def _check(self, tenant: str, mailbox: str) -> None:
        if not mailbox.endswith("@shop.example"):
            raise Denied(f"{tenant} may not send as {mailbox}")

    def _ready(self, _tenant: str, upload_id: str, _kind: UploadKind) -> ReadyUpload:
        if upload_id not in self.uploads:
            raise NotFound(f"there is no upload {upload_id!r}")
        return self.uploads[upload_id]


@contextmanager
def transactional_bench(root: Path, *, public_url: str | None = None) -> Iterator[TransactionalBench]:
    """A desk whose files are closed at the end."""
    with bench(root) as made:
        opened = TransactionalBench(made, root, public_url=public_url)
        try:
            yield opened
        finally:
            opened.close()
