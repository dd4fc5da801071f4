"""From the table's stream to the endpoint: what is owed is stored before the stream goes on, and told at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from postroom.callbacks.dispatcher import QUEUE, parse_wakeup
from postroom.clock import Instant
from postroom.entrypoints.lambdas import streams
from postroom.errors import Corrupt, Unavailable
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.callback import DeliveryStatus
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.ids import Key
from postroom.model.message import MessageStatus
from postroom.platform.ports.feed import MessageChange
from postroom.wiring import Container
from tests.lambdas.kit import Context, from_queue, installed, returned

HOOK = EndpointRef("default", "hook")


class Told:
    """An installation whose tenant has a callback at a server on this machine."""

    def __init__(self, postroom: Container, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        self.postroom = postroom
        self.monkeypatch = monkeypatch
        wishes = EndpointSettings(url=url, kinds=frozenset(EventKind))
        postroom.callbacks.create("default", wishes, id="hook", secret=b"s" * 32)
        self.ref = CampaignRef("default", "2" * 16)
        postroom.messages.create(self.ref, 1)

    def changes(self, count: int) -> list[MessageChange]:
        now = self.postroom.clock.now()
        keys = [Key(number.to_bytes(12, "big")) for number in range(count)]
        later = Instant(now + 1_000)
        return [MessageChange(self.ref, 0, key, MessageStatus.SENT, 1, now, 250, "ok", None, 7, later) for key in keys]

    def stream(self, changes: Sequence[MessageChange]) -> None:
        """The stream's records are the changes here; how they are read is the feed's."""
        self.monkeypatch.setattr(streams, "changes_of", list)
        streams.enqueue_callbacks({"Records": changes}, Context())

    def wakes(self) -> list[str]:
        found = self.postroom.queues.receive(QUEUE, limit=10)
        for item in found:
            self.postroom.queues.delete(QUEUE, item.receipt)
        return [item.body for item in found]

    def states(self) -> list[DeliveryStatus]:
        return [each.status for each in self.postroom.deliveries.list("default", "hook", limit=1_000).items]


class Server(ThreadingHTTPServer):
    """A tenant's."""

    daemon_threads = True

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[Told]:
    with installed(tmp_path, monkeypatch, streams, POSTROOM_CALLBACK_NETWORKS="127.0.0.0/8") as opened:
        yield Told(opened, monkeypatch, f"http://127.0.0.1:{server.server_port}/")


def test_a_change_is_at_the_endpoint_after_one_wake(told: Told, server: Server) -> None:
    told.stream(told.changes(5))
    (wake,) = told.wakes()
    assert parse_wakeup(wake) == [HOOK]
    assert returned(streams.send_callbacks(from_queue(QUEUE, wake, "nonsense"), Context())) == []
    assert len(server.bodies) == 5
    assert {body["type"] for body in server.bodies} == {"message.sent"}
    assert told.states() == [DeliveryStatus.DELIVERED] * 5


def test_the_same_records_again_are_the_same_requests_and_wake_again(told: Told) -> None:
    changes = told.changes(3)
    told.stream(changes)
    told.stream(changes)
    assert len(told.states()) == 3
    assert len(told.wakes()) == 2, "who was killed before the first wake left none"


def test_what_nobody_wants_wakes_nobody(told: Told) -> None:
    told.postroom.callbacks.disable(told.postroom.callbacks.get("default", "hook"), "off")
    told.stream(told.changes(3))
    told.stream([])
    assert told.wakes() == []


def test_a_store_that_does_not_answer_brings_the_whole_batch_again(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("busy")

    with monkeypatch.context() as patched:
        patched.setattr(type(told.postroom.deliveries), "add", fails)
        with pytest.raises(Unavailable):
            told.stream(told.changes(3))
    told.stream(told.changes(3))
    assert len(told.states()) == 3


def test_one_that_can_never_be_told_holds_up_no_other(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    changes, real = told.changes(4), told.postroom.delivery_builder.group_by_endpoint

    def odd(some: Sequence[MessageChange]) -> Any:
        if changes[1] in some:
            raise Corrupt("its record cannot be read")
        return real(some)

    monkeypatch.setattr(told.postroom.delivery_builder, "group_by_endpoint", odd)
    monkeypatch.setattr(streams, "count", lambda name, *_: counted.append(name))
    told.stream(changes)
    assert (len(told.states()), counted) == (3, ["ChangesNotTold"])


def test_each_minute_what_is_owed_is_woken_whatever_was_lost(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, float] = {}
    monkeypatch.setattr(streams, "count", lambda name, value=1, *_: counted.update({name: value}))
    told.stream(told.changes(2))
    told.wakes()
    streams.send_callbacks({"source": "aws.events", "time": "2026-11-24T16:00:00Z"}, Context())
    assert [parse_wakeup(wake) for wake in told.wakes()] == [[HOOK]]
    assert counted.keys() == {"CallbackEndpointsDue", "OldestDueCallback"}


def test_a_wake_whose_lane_meets_a_store_that_does_not_answer_is_given_back(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.stream(told.changes(1))
    (wake,) = told.wakes()

    def fails(*_: object, **__: object) -> None:
        raise Unavailable("busy")

    with monkeypatch.context() as patched:
        patched.setattr("postroom.ledger.callback_deliveries.EndpointLeases.take", fails)
        assert returned(streams.send_callbacks(from_queue(QUEUE, '[["default","other"]]', wake), Context())) == ["0", "1"]
    assert returned(streams.send_callbacks(from_queue(QUEUE, wake), Context())) == []
    assert told.states() == [DeliveryStatus.DELIVERED]


def test_a_record_that_cannot_be_read_holds_up_no_other(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def read(records: Sequence[Any]) -> list[MessageChange]:
        if "broken" in records:
            raise Corrupt("it is no item of ours")
        return list(records)

    monkeypatch.setattr(streams, "count", counted.append)
    monkeypatch.setattr(streams, "changes_of", read)
    streams.enqueue_callbacks({"Records": [*told.changes(2), "broken"]}, Context())
    assert (len(told.states()), counted) == (2, ["RecordsNotRead"])
