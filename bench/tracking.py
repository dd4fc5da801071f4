"""Opens and clicks over HTTP: how many a second one core answers, as a ratio to a bare ASGI application in the same run.

    python -m bench.tracking [--seconds S]

The server is the process that `postroom serve` starts (`postroom http`), whole, on one core; this process asks over 32 kept
connections from another. Every hit is of another message, half opens, half clicks, and each is on the feedback queue in the end:
that is counted. The bare application is a function that sends the pixel, under the same server. The last line is at the pace
that is asked for, while a program asks for its campaigns as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import cast

import msgspec
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from bench.status import Load
from postroom.delivery.tracking import links_key
from postroom.entrypoints.server.http_server import HttpConnection
from postroom.gateway.routes.public import PIXEL
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, parse_inbound_events
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.model.ids import Key
from postroom.model.tokens import TokenSealer
from postroom.settings import Settings
from postroom.wiring import open_app

CONNECTIONS = 32
PACE = 3_000.0
"""Hits a second at which answers must come within 20 ms (99 of 100)."""
OTHERS = 20.0
"""Calls of a program a second, beside them."""
PEOPLE = 50_000
_AGENT = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_ME = Principal(PrincipalKind.OPERATOR, "bench", "bench", "default", Role.ADMIN)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The reference: an ASGI function that answers a pixel or redirect."""
    fields = [(b"content-type", b"image/gif"), (b"content-length", str(len(PIXEL)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": PIXEL})


def serve_bare(descriptor: int) -> None:
    """Until killed."""
    config = uvicorn.Config(
        bare, loop="uvloop", http=HttpConnection, ws="none", lifespan="off", log_config=None, access_log=False
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


@dataclass(frozen=True)
class Server:
    """A process that answers."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """What it has used since it began, user and system."""
        ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    load: Load
    answers: int
    cpu_us: float
    """Of the server's, an answer: it does not depend on what else the machine does."""


@contextmanager
def served(words: Callable[[int], list[str]], environ: dict[str, str]) -> Iterator[Server]:
    """A server in a process of its own, on the first core; `words`: its command, by the socket's descriptor."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    command = [sys.executable, "-m", *words(listening.fileno())]
    cores, pipe, nothing = os.sched_getaffinity(0), subprocess.PIPE, subprocess.DEVNULL
    os.sched_setaffinity(0, {min(cores)})  # inherited
    process = subprocess.Popen(command, env=environ, pass_fds=[listening.fileno()], stdin=pipe, stdout=nothing, stderr=nothing)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield Server(listening.getsockname()[1], process.pid)
    finally:
        os.sched_setaffinity(0, cores)
        process.terminate()
        process.wait()
        listening.close()


class _Caller(asyncio.Protocol):
    """One connection: the next request when the answer to the last has come."""

    def __init__(self, due: Callable[[], float], request: Callable[[], bytes], took: list[float]) -> None:
        self._due = due
        self._request = request
        self._took = took
        self._began = 0.0
        self._loop = asyncio.get_running_loop()
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _is_whole(self._answer):
            return
        if not self._answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 302")):
            raise SystemExit(f"not answered: {self._answer[:200]!r}")
        self._took.append(time.perf_counter() - self._began)
        self._answer = b""
        self._next()

    def _next(self) -> None:
        due, now = self._due(), time.perf_counter()
        if due > now:
            self._loop.call_later(due - now, self._send, due)
        else:
            self._send(due or now)

    def _send(self, began: float) -> None:
        """From when it was due: waiting for the answer before counts."""
        self._began = began
        if not self._transport.is_closing():
            self._transport.write(self._request())


def _is_whole(answer: bytes) -> bool:
    head, gap, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
    return bool(gap) and len(body) >= int(length or b"0")


async def ask(
    port: int, hits: Iterator[bytes], *, seconds: float, pace: float | None = None, other: bytes | None = None
) -> list[float]:
    """As fast as answers come, or at `pace` a second, evenly over all connections; `other`: what a program asks beside them.
    How long each took, in seconds."""
    took: list[float] = []
    loop, began = asyncio.get_running_loop(), time.perf_counter()

    def caller(number: int, count: int, pace: float | None, request: Callable[[], bytes], took: list[float]) -> _Caller:
        times = (began + (number + each * count) / pace for each in range(10**9)) if pace else cycle([0.0])
        return _Caller(times.__next__, request, took)

    made = [
        await loop.create_connection(lambda n=number: caller(n, CONNECTIONS, pace, hits.__next__, took), "127.0.0.1", port)  # type: ignore[misc]
        for number in range(CONNECTIONS)
    ]
    if other is not None:
        made.append(await loop.create_connection(lambda: caller(0, 1, OTHERS, lambda: other, []), "127.0.0.1", port))
    await asyncio.sleep(began + seconds - time.perf_counter())
    for transport, _ in made:
        transport.abort()
    return sorted(took)


def prepared(data: Path) -> tuple[list[bytes], bytes]:
    """Requests of a campaign's recipients, and one of a program."""
    with open_app(Settings(data=data)) as postroom:
        tenant, home = postroom.tenants.get("default"), postroom.records.new_ref("default")
        postroom.objects.put(links_key(home), msgspec.json.encode(["https://shop.example/spring?from=news"] * 20))
        key = postroom.api_keys.create(_ME, "bench", role=Role.VIEWER).text
    sealer = TokenSealer(tenant, home.campaign)
    tokens = [sealer.recipient(number // 500, Key(number.to_bytes(12, "big")), 1) for number in range(PEOPLE)]
    opens = [_get(f"/t/o/{token}", f"User-Agent: {_AGENT}\r\n") for token in tokens[::2]]
    clicks = [_get(f"/t/c/{token}.{number % 20}", f"User-Agent: {_BROWSER}\r\n") for number, token in enumerate(tokens[1::2])]
    hits = [hit for pair in zip(opens, clicks, strict=True) for hit in pair]
    return hits, _get("/v1/campaigns", f"Authorization: Bearer {key}\r\n")


def _get(path: str, fields: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: mail.example\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n{fields}\r\n".encode()


def queued(data: Path) -> int:
    """How many hits are on the queue."""
    found = 0
    with open_app(Settings(data=data)) as postroom:
        while items := postroom.queues.receive(FEEDBACK_QUEUE, limit=10):
            for item in items:
                found += len({(each.key, each.event.id) for each in parse_inbound_events(item.body)})
                postroom.queues.delete(FEEDBACK_QUEUE, item.receipt)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--bare", type=int)
    given = parser.parse_args()
    if given.bare is not None:
        serve_bare(given.bare)
        return
    with tempfile.TemporaryDirectory(dir=".") as directory:
        _measure(Path(directory), given.seconds)


def _measure(data: Path, seconds: float) -> None:
    hits, other = prepared(data)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    environ = plain | {"POSTROOM_DATA": str(data)}
    with served(lambda fd: ["bench.tracking", "--bare", str(fd)], plain) as server:
        reference = _measured(server, cycle(hits), seconds=seconds)
    _show("bare ASGI", reference, reference)
    with served(lambda fd: ["postroom", "http", "--handle", str(fd)], environ) as server:
        found = _measured(server, iter(hits), seconds=seconds)
    _show("opens and clicks", found, reference)
    print(f"{'':28} {found.answers} answered, {queued(data)} queued, the unmeasured first ones among them", flush=True)
    with served(lambda fd: ["postroom", "http", "--handle", str(fd)], environ) as server:
        _show("the same, at a calm pace", _measured(server, iter(hits), seconds=seconds, pace=PACE, other=other), reference)


def _measured(
    server: Server, hits: Iterator[bytes], *, seconds: float, pace: float | None = None, other: bytes | None = None
) -> Figures:
    """After a warm start."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as first:
        first.sendall(next(hits))
        first.recv(1)  # the server is there
    uvloop.run(ask(server.port, hits, seconds=0.3))
    before = server.cpu_s()
    took = uvloop.run(ask(server.port, hits, seconds=seconds, pace=pace, other=other))
    load = Load(len(took) / seconds, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3)
    return Figures(load, len(took), (server.cpu_s() - before) / len(took) * 1e6)


def _show(name: str, found: Figures, reference: Figures) -> None:
    load, ratio = found.load, found.load.rate / reference.load.rate
    print(
        f"{name:28} {load.rate:6.0f} a second, {ratio:.2f} of bare, {found.cpu_us:4.0f} µs of CPU each, "
        f"p50 {load.p50:5.1f} ms, p99 {load.p99:5.1f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
