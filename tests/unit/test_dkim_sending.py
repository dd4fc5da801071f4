"""What the sender signs: campaigns and single messages, but for a relay that signs by itself; and what it does where it cannot."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.delivery.dkim import generate_key
from postroom.errors import Corrupt
from postroom.ledger.dkim import DkimPrivateKey
from postroom.model.dkim import Algorithm, DkimKey, DomainKeys, KeyStatus
from postroom.model.message import MessageStatus
from postroom.pipeline.sender.context import StopSignal
from postroom.platform.mail.port import OutboundMessage
from postroom.platform.ports.tables import ItemKey, Put
from tests.fakes.mailer import ScriptedMailer
from tests.fakes.transactional import TransactionalBench, request, transactional_bench


class KeepingMailer(ScriptedMailer):
    """Keeps what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[bytes] = []

    def submit(self, delivery: OutboundMessage) -> None:
        self.before_handing_over = lambda _address: self.contents.append(delivery.compose() or b"")
        super().submit(delivery)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    """The senders of single messages and of campaigns have a key each."""
    with transactional_bench(tmp_path) as opened:
        opened.objects.put("html", b"<p>News</p>")
        for domain in ("shop.example", "example.com"):
            key = generate_key(Algorithm.ED25519)
            public = DkimKey("s1", Algorithm.ED25519, key.public, opened.clock.now(), KeyStatus.ACTIVE)
            opened.keys.add(DomainKeys("default", domain), [DkimPrivateKey(public, key.private)])
        yield opened


def left(made: TransactionalBench) -> list[list[bytes]]:
    """The domains that each mail of a campaign of two and of a single message is signed for."""
    made.mailer = keeping = KeepingMailer()
    campaign = made.made.campaign(people=2)
    asyncio.run(made.sender().send(campaign.ref, StopSignal(), lambda _reason: None))
    made.accept(request())
    made.send(lambda: made.states() == ["sent"])
    return [re.findall(rb"\bd=([a-z.]+);", content.partition(b"\r\n\r\n")[0]) for content in keeping.contents]


def lose(made: TransactionalBench, domain: str) -> None:
    """What was kept cannot be opened."""
    key = ItemKey("default#dkim", domain)
    item = made.made.tables.get(key)
    assert item is not None
    made.made.tables.write([Put(key, {"keys": [{**each, "sealed": "of another"} for each in item.data["keys"]]})])


def test_every_mail_is_signed(made: TransactionalBench) -> None:
    assert left(made) == [[b"example.com"], [b"example.com"], [b"shop.example"]]


def test_a_relay_that_signs_gets_mail_as_it_is(made: TransactionalBench) -> None:
    made.relay_signs = True
    assert left(made) == [[], [], []]


def test_through_a_relay_that_signs_a_key_that_is_lost_stops_nothing(made: TransactionalBench) -> None:
    made.relay_signs = True
    lose(made, "example.com")
    lose(made, "shop.example")
    assert len(left(made)) == 3


def test_a_campaign_that_cannot_be_signed_sends_nothing(made: TransactionalBench) -> None:
    lose(made, "example.com")
    with pytest.raises(Corrupt, match=r"example\.com cannot be signed"):
        left(made)
    assert made.mailer.accepted == []


def test_a_single_message_that_cannot_be_signed_waits_and_others_leave(made: TransactionalBench) -> None:
    lose(made, "shop.example")
    (waiting,) = made.accept(request())
    made.send(lambda: made.states() == ["deferred"])
    message = made.message(waiting)
    assert (message.status, message.attempt) == (MessageStatus.DEFERRED, 1)
    assert "shop.example cannot be signed" in message.reply
    assert made.mailer.accepted == []
