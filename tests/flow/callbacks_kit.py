"""A tenant's system that is told what happens to its mail, and what it was told held against the ledger."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final, NamedTuple

from postroom.clock import Instant
from postroom.errors import Conflict, NotFound
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.provider_status import queued_event
from postroom.model.tokens import message_id
from postroom.platform.ports.tables import Delete, ItemKey, Put
from postroom.wiring import Container
from tests.flow.campaign_kit import Office, until

NETWORKS: Final = "127.0.0.0/8"
"""For the setting `callback_networks`: where receivers are."""
ENDPOINT: Final = "hook"
_PASS_EVERY_S: Final = 0.5


class Tell(NamedTuple):
    """One event of one message."""

    message: str
    event: str
    type: str
    recipient: str


class Receiver:
    """Notes what it is told, and refuses every seventh request the first time."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = defaultdict(list)
        """By `webhook-id`, the bodies."""
        self.taken: set[str] = set()
        self.headers: dict[str, Mapping[str, str]] = {}
        self._count = 0
        self._lock = Lock()

    def answer(self, name: str, body: str, headers: Mapping[str, str]) -> int:
        with self._lock:
            self._count += 1
            self.told[name].append(body)
            self.headers[name] = headers
            if self._count % 7 == 0 and len(self.told[name]) == 1:
                return 500
            self.taken.add(name)
            return 204

    def tells(self) -> Counter[Tell]:
        """What it took, each `webhook-id` once."""
        with self._lock:
            bodies: list[Any] = [json.loads(self.told[name][0]) for name in self.taken]
        return Counter(_tell(body) for body in bodies)

    def events(self) -> Counter[str]:
        """What was told of whom."""
        return Counter(f"{tell.type} {tell.recipient}" for tell in self.tells().elements())


def _tell(body: Any) -> Tell:
    data = body["data"]
    return Tell(data["message_id"], data["event_id"], body["type"], data["recipient"])


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """As many connections come at once; what finds no place in the line comes again after a second."""


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """A receiver and its URL."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # whoever sent it was killed on the way
                return
            self.send_response(receiver.answer(self.headers["webhook-id"], body.decode(), dict(self.headers)))
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def subscribe(office: Office, url: str, *kinds: EventKind, tenant: str = "default") -> None:
    """Have the tenant told; without `kinds` of everything."""
    with office.opened() as postroom:
        wishes = EndpointSettings(url=url, kinds=frozenset(kinds or EventKind))
        postroom.callbacks.create(tenant, wishes, id=ENDPOINT, secret=b"s" * 32)


def until_told(postroom: Container, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for what is told, without waiting for leases of killed processes and for times of further tries."""
    passed_at = 0.0

    def told() -> bool:
        nonlocal passed_at
        if not condition() and time.monotonic() > passed_at + _PASS_EVERY_S:
            passed_at = time.monotonic()
            pass_time(postroom)
        return condition()

    until(told, what, seconds)


def pass_time(postroom: Container) -> None:
    """What waits for a time is due now: the leases of a killed process, and further tries."""
    postroom.tables.write([Delete(ItemKey("#callback-follower", "lease"))])
    partition, now = f"default#deliveries-due#{ENDPOINT}", postroom.clock.now()
    for item in postroom.tables.query(partition, limit=1_000).items:
        due, _, name = item.key.sort.partition("/")
        if int(due) > now:
            with suppress(Conflict):  # the process has it in its hands
                postroom.tables.write([Delete(item.key, item.version), Put(ItemKey(partition, f"{now:015d}/{name}"), {})])


def happened(postroom: Container) -> Counter[Tell]:
    """All that stands on any timeline, and that each message was taken on."""
    found: Counter[Tell] = Counter()
    for shard in postroom.feed.shards():
        ref = CampaignRef(*shard.split("/", 1))
        with suppress(NotFound):
            found += _happened_at(postroom, ref)
    return found


def _happened_at(postroom: Container, ref: CampaignRef) -> Counter[Tell]:
    messages = postroom.messages.list(ref, limit=1_000).messages
    assert len(messages) < 1_000
    return Counter(
        Tell(message_id(ref, message.key), event.id, f"message.{event.kind}", message.address)
        for message in messages
        for event in [queued_event(Instant(0)), *postroom.messages.timeline(ref, message.batch, message.key)]
    )


def assert_told(receiver: Receiver, postroom: Container) -> None:
    """All that happened, by the ledger's timelines, was told once by its id, to the letter the same each time; nothing else was."""
    tells, events = receiver.tells(), happened(postroom)
    assert set(events.values()) == {1}
    assert tells == events, f"not told: {sorted(events - tells)[:5]}; told, and no such event: {sorted(tells - events)[:5]}"
    assert all(len(set(bodies)) == 1 for bodies in receiver.told.values()), "what is told twice is the same"
