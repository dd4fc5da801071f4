"""Callbacks as a tenant's system gets them from a running server, whose process for them is killed again and again."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from postroom.errors import Conflict
from postroom.ledger.callbacks import Wishes
from postroom.model.event import EventKind
from postroom.platform.ports.tables import Delete, ItemKey, Put
from postroom.settings import Settings
from postroom.wiring import Postroom, open_postroom
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import served

PEOPLE = 120


class Receiver:
    """A tenant's system: notes what it is told, and refuses every seventh request the first time."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = defaultdict(list)
        """By `webhook-id`, the bodies."""
        self.taken: set[str] = set()
        self._count = 0

    def answer(self, name: str, body: str) -> int:
        self._count += 1
        self.told[name].append(body)
        if self._count % 7 == 0 and name not in self.taken:
            return 500
        self.taken.add(name)
        return 204

    def events(self) -> Counter[str]:
        """What was told of whom, each once."""
        bodies: list[Any] = [json.loads(self.told[name][0]) for name in self.taken]
        return Counter(f"{body['type']} {body['data']['recipient']}" for body in bodies)


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """A receiver and its URL."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.send_response(receiver.answer(self.headers["webhook-id"], body))
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_event_is_told_although_the_process_is_killed(tmp_path: Path) -> None:
    with receiving() as (receiver, url), served(tmp_path, callback_networks="127.0.0.0/8") as office:
        server = office.serve()
        caller = office.key()
        with open_postroom(Settings(data=Path(office.environ["POSTROOM_DATA"]))) as postroom:
            kinds = frozenset({EventKind.QUEUED, EventKind.SENT})
            postroom.callbacks.create("default", Wishes(url=url, kinds=kinds), id="hook", secret=b"s" * 32)
            assert office.command("sender", "vouch", "example.com")[0] == 0
            rows = "email,name\n" + "".join(f"p{number}@example.com,N\n" for number in range(PEOPLE))
            ordered = {
                "name": "News",
                "template_id": caller.template("<p>Hello {{ name }}</p>"),
                "upload_id": caller.upload(rows.encode()),
                "from": "news@example.com",
            }
            campaign = caller.call("POST", "/v1/campaigns", 201, ordered)["id"]
            for enough in (20, 80, 150):
                until(lambda enough=enough: len(receiver.told) >= enough, f"{enough} requests")  # type: ignore[misc]
                (victim,) = office.role("callbacks")
                os.kill(victim, signal.SIGKILL)
                server.until(lambda gone=victim: office.role("callbacks") not in ([], [gone]), "another one")  # type: ignore[misc]
                _pass_time(postroom)
            caller.settled(campaign)
            expected = {f"message.{what} p{number}@example.com" for what in ("queued", "sent") for number in range(PEOPLE)}

            def all_told() -> bool:
                _pass_time(postroom)
                return receiver.events().keys() == expected

            until(all_told, "everything to be told")
        assert set(receiver.events().values()) == {1}, "what is told twice has the same id"
        assert all(len(set(bodies)) == 1 for bodies in receiver.told.values())


def _pass_time(postroom: Postroom) -> None:
    """What waits for a time is due now: the leases of a killed process, and further tries."""
    postroom.tables.write([Delete(ItemKey("#callback-follower", "lease"))])
    partition, now = "default#deliveries-due#hook", postroom.clock.now()
    for item in postroom.tables.query(partition, limit=1_000).items:
        name = item.key.sort.partition("/")[2]
        with suppress(Conflict):  # the process has it in its hands
            postroom.tables.write([Delete(item.key, item.version), Put(ItemKey(partition, f"{now:015d}/{name}"), {})])
