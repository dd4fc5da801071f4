"""Callbacks to a fast endpoint while a dead one times out beside it, as a ratio to the same client posting and nothing else.

    python -m bench.callbacks [--events N]

Every event is a delivery of its own: found in the feed, stored, signed, sent, and stored as delivered. The endpoint is a process
of its own on this machine that answers at once; the dead one takes connections and never says a word. Asked for are 500 a second.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from postroom.clock import Instant
from postroom.entrypoints.server.background import process_callbacks
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, EventKind
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import MessageRow
from postroom.platform.ports.messages import MAX_EVENTS_PER_CALL, ReportedEvent
from postroom.platform.web.client import WebClient
from postroom.settings import Settings
from postroom.wiring import Container, open_app

_HERE = "127.0.0.0/8"
_AT_ONCE = 16
_KINDS = frozenset({EventKind.DELIVERED})


class _Counting(asyncio.Protocol):
    """Answers each request at once."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while b"\r\n\r\n" in self._unread:
            head, _, rest = self._unread.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(rest) < length:
                return
            self._unread = rest[length:]
            _Counting.count += 1
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def endpoints(pipe: Connection) -> None:
    """A process: the ports of one that answers and one that does not; then the count, whenever it is asked."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        fast = await loop.create_server(_Counting, "127.0.0.1", 0)
        dead = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        pipe.send([server.sockets[0].getsockname()[1] for server in (fast, dead)])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(_Counting.count)

    asyncio.run(serve())


def bare(url: str, events: int, body: bytes) -> float:
    """Requests a second of the client alone."""

    async def run() -> None:
        caller, left = WebClient(networks=[_HERE]), iter(range(events))

        async def post() -> None:
            for _ in left:
                await caller.post(url, {"content-type": "application/json"}, body)

        await asyncio.gather(*(post() for _ in range(_AT_ONCE)))
        await caller.close()

    began = time.perf_counter()
    asyncio.run(run())
    return events / (time.perf_counter() - began)


def happen(postroom: Container, ref: CampaignRef, events: int) -> None:
    """So many messages are stored, and each is reported as delivered."""
    now = postroom.clock.now()
    postroom.messages.create(ref, 1)
    keys = [Key(number.to_bytes(KEY_BYTES, "big")) for number in range(events)]
    postroom.messages.store(ref, [MessageRow(0, key, 2, "ann@example.com", None, "[]") for key in keys], now)
    for first in range(0, events, MAX_EVENTS_PER_CALL):
        delivered = Event(kind=EventKind.DELIVERED, attempt=1, at=Instant(now + 1), id="d", source="dsn")
        postroom.messages.record_events(
            ref, [ReportedEvent(0, key, delivered) for key in keys[first : first + MAX_EVENTS_PER_CALL]], now
        )


def told(postroom: Container, pipe: Connection, events: int) -> float:
    """Deliveries a second until the endpoint has heard of all."""
    stop, seconds = threading.Event(), [0.0]
    pipe.send(True)
    before = pipe.recv()
    began = time.perf_counter()

    async def run() -> None:
        ended = asyncio.Event()

        async def watch() -> None:
            while True:
                await asyncio.sleep(0.05)
                pipe.send(True)
                if pipe.recv() - before >= events:
                    break
            seconds[0] = time.perf_counter() - began
            stop.set()
            ended.set()

        await asyncio.gather(process_callbacks(postroom, ended, stop), watch())

    asyncio.run(run())
    return events / seconds[0]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000)
    events = parser.parse_args().events
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=endpoints, args=(theirs,), daemon=True)
    process.start()
    with tempfile.TemporaryDirectory() as name, closing(ours):
        fast, dead = (f"http://127.0.0.1:{port}/" for port in ours.recv())
        alone = bare(fast, events, b"x" * 500)
        with open_app(Settings(data=Path(name), callback_networks=(_HERE,))) as postroom:
            for endpoint, url in (("fast", fast), ("dead", dead)):
                postroom.callbacks.create("default", EndpointSettings(url=url, kinds=_KINDS), id=endpoint, secret=b"s" * 32)
            happen(postroom, CampaignRef("default", "bench"), events)
            rate = told(postroom, ours, events)
        ours.send(False)
    print(f"{'the client alone':28}{alone:9,.0f} requests/s")
    print(f"{'callbacks, a dead one beside':28}{rate:9,.0f} deliveries/s, ratio {rate / alone:.2f}")


if __name__ == "__main__":
    main()
