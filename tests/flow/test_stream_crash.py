"""kill -9 of workers with single messages in hand, again and again: each is sent once, or known to be in doubt."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from postroom.delivery.transactional import ContentStore, TransactionalCompiler
from postroom.errors import NotFound
from postroom.ledger.suppression import SuppressionList
from postroom.model.message import Message
from postroom.model.stream import day_of, stream_ref
from postroom.model.template import TemplateContent
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.services.message_acceptance import AcceptedMessage, MessageAcceptance
from postroom.services.messages import MessageService, MessageSources
from postroom.wiring import Container
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.fakes.transactional import request
from tests.flow.campaign_kit import MakeOffice, Office, assert_exact, until

CONNECTIONS = 4
PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(2_000)]
QUIET = Options(keep_content=False)


class Workers:
    """Two worker processes, each replaced when it is killed."""

    def __init__(self, office: Office, seed: int) -> None:
        self._office = office
        self._chance = random.Random(seed)
        self._living = [self._start(), self._start()]
        self.kills = 0

    def kill_one(self) -> None:
        victim = self._chance.randrange(2)
        self._end(victim)
        self.kills += 1
        self._living[victim] = self._start()

    def close(self) -> None:
        for each in range(2):
            self._end(each)

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "postroom", "worker"]
        with (self._office.root / "workers.err").open("ab") as err:
            return subprocess.Popen(
                words,
                env=self._office.environ,
                cwd=self._office.root,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=err,
            )

    def _end(self, number: int) -> None:
        process = self._living[number]
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def workers(office: Office, seed: int) -> Iterator[Workers]:
    """Dead at the end."""
    made = Workers(office, seed)
    try:
        yield made
    finally:
        made.close()


def service(postroom: Container) -> MessageService:
    """The door's part, which lets everybody send."""

    def no_template(_tenant: str, template_id: str, _version: int | None) -> TemplateContent:
        raise NotFound(template_id)

    def no_upload(_tenant: str, upload_id: str, _kind: UploadKind) -> ReadyUpload:
        raise NotFound(upload_id)

    return MessageService(
        MessageSources(contents=no_template, check_sender=lambda _tenant, _from: None, ready=no_upload),
        MessageAcceptance(postroom.messages, postroom.streams, postroom.clock),
        contents=ContentStore(postroom.objects),
        singles=TransactionalCompiler(postroom.compiler, postroom.tenants, postroom.objects),
        messages=postroom.messages,
        suppression=SuppressionList(postroom.tables, postroom.clock),
        tenants=postroom.tenants,
        clock=postroom.clock,
    )


def ledger(messages: MessageService, days: range) -> dict[str, Message]:
    """By address."""
    found: dict[str, Message] = {}
    for day in days:
        cursor: str | None = None
        while True:
            page = messages.list(DEFAULT_TENANT, day, cursor=cursor, limit=1_000)
            found |= {record.message.address: record.message for record in page.records}
            cursor = page.cursor
            if cursor is None:
                break
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_nobody_is_lost_and_nobody_is_written_to_twice(make_office: MakeOffice, seed: int) -> None:
    rules = [
        Rule("rcpt", "reply", 550, "5.1.1 nobody", to="p*99@*"),
        Rule("dot", "accept_drop", to="p*55@*", times=2),
    ]
    with SmtpSink(rules, QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS)
        with office.opened() as postroom, workers(office, seed) as running:
            messages, first_day = service(postroom), day_of(postroom.clock.now())
            chance = random.Random(seed)
            for at in range(0, len(PEOPLE), 50):
                accepted = messages.submit(DEFAULT_TENANT, [request(to) for to in PEOPLE[at : at + 50]], seed=messages.new_seed())
                assert all(isinstance(each, AcceptedMessage) for each in accepted)
                if at % 300 == 0 and at:
                    mark, late = len(sink.accepted) + chance.randrange(60), time.monotonic() + 2
                    until(lambda: len(sink.accepted) >= mark or time.monotonic() > late, "mail")  # noqa: B023
                    running.kill_one()
            days = range(first_day, day_of(postroom.clock.now()) + 1)
            homes = [stream_ref(postroom.tenants.get(DEFAULT_TENANT), day) for day in days]
            until(lambda: not any(postroom.streams.owes(home) for home in homes), "all to be sent", seconds=60)
            found = ledger(messages, days)
    assert running.kills >= 5
    assert set(found) == set(PEOPLE)
    assert_exact(found, sink.recipients())
    states = {message.status.label for message in found.values()}
    assert {"sent", "bounced"} <= states <= {"sent", "bounced", "unknown"}
    in_doubt = sum(message.status.label == "unknown" for message in found.values())
    assert in_doubt <= CONNECTIONS * running.kills + 2
