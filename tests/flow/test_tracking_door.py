"""The door as a process of its own, stopped and killed while people open, click and unsubscribe."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent, parse_inbound_events
from postroom.ledger.suppression import SuppressionList
from postroom.model.event import EventKind
from postroom.model.ids import Key
from postroom.model.tenant import Tenant
from postroom.model.tokens import TokenSealer
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.flow.campaign_kit import until

CAMPAIGN = "a" * 16
AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
ANNA = Key(b"a" * 12)


class Door:
    """`postroom door`, as `postroom serve` starts it."""

    def __init__(self, environ: dict[str, str], listening: socket.socket, tenant: Tenant) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.sealer = TokenSealer(tenant, CAMPAIGN)
        self.browser = requests.Session()
        self.browser.headers.update(AGENT)
        command = [sys.executable, "-m", "postroom", "http", "--handle", str(listening.fileno())]
        self.process = subprocess.Popen(
            command,
            env=environ,
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def open(self, number: int) -> None:
        """Somebody's pixel."""
        token = self.sealer.recipient(0, Key(number.to_bytes(12, "big")), 1)
        assert self.browser.get(f"{self.url}/t/o/{token}", timeout=30).status_code == 200

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.browser.close()
        return code


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings(data=tmp_path / "data")) as postroom:
        yield postroom


@contextmanager
def door_of(postroom: Container) -> Iterator[Door]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        door = Door(postroom.settings.environ(), listening, postroom.tenants.get("default"))
        try:
            yield door
        finally:
            door.process.kill()
            door.process.wait()
            assert door.process.stdin is not None
            door.process.stdin.close()
            door.browser.close()


def arrived(postroom: Container) -> list[InboundEvent]:
    found: list[InboundEvent] = []
    while items := postroom.queues.receive(FEEDBACK_QUEUE, limit=10):
        for item in items:
            found += parse_inbound_events(item.body)
            postroom.queues.delete(FEEDBACK_QUEUE, item.receipt)
    return found


def test_a_stopped_door_loses_no_hit(postroom: Container) -> None:
    with door_of(postroom) as door:
        for number in range(100):
            door.open(number)
        assert door.end(signal.SIGTERM) == 0
    assert {each.key for each in arrived(postroom)} == {number.to_bytes(12, "big") for number in range(100)}


def test_a_killed_door_loses_only_its_last_moment_of_hits_and_no_unsubscribe(postroom: Container) -> None:
    """Hits of before are written without anybody asking for it; a wish is when it is answered."""
    with door_of(postroom) as door:
        for number in range(50):
            door.open(number)
        seen: list[InboundEvent] = []

        def written() -> bool:
            seen.extend(arrived(postroom))
            return len(seen) == 50

        until(written, "the hits to be written", 10.0)
        for number in range(50, 100):
            door.open(number)
        address = f"{door.url}/u/{door.sealer.unsubscribe(ANNA)}"
        answer = door.browser.post(address, data={"List-Unsubscribe": "One-Click"}, timeout=30)
        door.end(signal.SIGKILL)
        assert answer.status_code == 200
    assert SuppressionList(postroom.tables, postroom.clock).get("default", ANNA) is not None
    late = arrived(postroom)
    assert [each.key for each in late if each.event.kind is EventKind.UNSUBSCRIBED] == [ANNA]
    assert len({each.key for each in (*seen, *late)}) == len(seen) + len(late)
