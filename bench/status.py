"""How often a campaign's status can be asked for: over HTTP, through the whole door on one core, as a ratio to a bare one.

    python -m bench.status [--seconds S]

The server is a process of its own (uvicorn with httptools and uvloop, an API key checked, limits, rates and log line as always),
on one core; this process asks over 32 connections from the other. The reference is FastAPI with one route that answers the same
bytes. Asked for are the statuses of running campaigns, of 2 batches and of 2,000: that of a million recipients.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Response

from postroom.entrypoints.application import gateway_config
from postroom.gateway.app import create_app
from postroom.gateway.rate_limits import ApiRates
from postroom.gateway.routes.campaign_status import StatusCache, status_routes
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.model.campaign import Campaign, CampaignSpec, CampaignStatus, Content, Import, StoredFiles
from postroom.settings import Settings
from postroom.wiring import Container, open_app

CONNECTIONS = 32
PACE = 750.0
"""Requests a second at which answers must come within 30 ms (99 of 100): half of what one core must give at least."""
_ME = Principal(PrincipalKind.OPERATOR, "bench", "bench", "default", Role.ADMIN)


@dataclass(frozen=True)
class Load:
    """What was measured."""

    rate: float
    """Answers a second."""
    p50: float
    """Milliseconds."""
    p99: float


def campaign(postroom: Container, batches: int) -> str:
    """The id of one that is sending."""
    home = postroom.records.new_ref("default")
    postroom.messages.create(home, batches)
    source = Import("upload", "people.csv", batches=batches, rows=batches * 500)
    spec, now = CampaignSpec(name="bench", content=Content(from_="news@example.com", subject="Hello")), postroom.clock.now()
    record = Campaign(home, spec, CampaignStatus.SENDING, StoredFiles("html"), source, now, started_at=now)
    postroom.records.create(record)
    return home.campaign


def application(postroom: Container) -> FastAPI:
    """The API with this one service, and a rate limit that is never reached."""
    board = StatusCache(postroom.status, postroom.clock)
    return create_app(replace(gateway_config(postroom), rates=ApiRates.from_setting(10_000_000)), [status_routes(board)])


def bare(answer: bytes) -> FastAPI:
    """The reference: FastAPI with one route that answers these bytes."""
    app, router = FastAPI(), APIRouter()

    @router.get("/v1/campaigns/{campaign_id}/status")
    async def status(campaign_id: str) -> Response:
        return Response(answer, media_type="application/json")

    app.router.routes.extend(router.routes)
    return app


def serve(kind: str, data: Path, descriptor: int) -> None:
    """Until killed, on the first core there is."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with open_app(Settings(data=data)) as postroom:
        app = application(postroom) if kind == "door" else bare(b"x" * 700)
        options = {"lifespan": "off", "log_config": None, "access_log": False, "ws": "none", "http": "httptools"}
        config = uvicorn.Config(app, loop="uvloop", **options)  # type: ignore[arg-type]  # one dictionary of several types
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


@contextmanager
def served(kind: str, data: Path) -> Iterator[int]:
    """The port of a server in a process of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    command = [sys.executable, "-m", "bench.status", "--serve", kind, str(data), str(listening.fileno())]
    process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL)
    try:
        yield listening.getsockname()[1]
    finally:
        process.kill()
        process.wait()
        listening.close()


async def ask(port: int, request: bytes, *, seconds: float, pace: float | None = None) -> Load:
    """Over all connections as fast as answers come, or at `pace` requests a second."""
    took: list[float] = []
    began = time.perf_counter()
    ends = began + seconds

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = began + (number / pace if pace else 0.0)
        while (start := time.perf_counter()) < ends:
            if pace and start < due:
                await asyncio.sleep(due - start)
                start = due
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 304")):
                raise SystemExit(f"not answered: {head!r}")
            if length := head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip():
                await reader.readexactly(int(length))
            took.append(time.perf_counter() - start)
            due += CONNECTIONS / pace if pace else 0.0
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    took.sort()
    rate = len(took) / (time.perf_counter() - began)
    return Load(rate, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3)


def request(campaign_id: str, key: str, etag: str = "") -> bytes:
    """One GET."""
    known = f"If-None-Match: {etag}\r\n" if etag else ""
    path = f"/v1/campaigns/{campaign_id}/status"
    return f"GET {path} HTTP/1.1\r\nHost: door.example\r\nAuthorization: Bearer {key}\r\n{known}\r\n".encode()


def measured(port: int, text: bytes, *, seconds: float, pace: float | None = None) -> Load:
    """After a warm start."""
    uvloop.run(ask(port, text, seconds=0.5))
    return uvloop.run(ask(port, text, seconds=seconds, pace=pace))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--serve", nargs=3)
    given = parser.parse_args()
    if given.serve:
        kind, data, descriptor = given.serve
        serve(kind, Path(data), int(descriptor))
        return
    with tempfile.TemporaryDirectory(dir=".") as directory:
        _measure(Path(directory), given.seconds)


def _measure(data: Path, seconds: float) -> None:
    with open_app(Settings(data=data)) as postroom:
        small, large = campaign(postroom, 2), campaign(postroom, 2_000)
        key = postroom.api_keys.create(_ME, "bench", role=Role.VIEWER).text
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with served("bare", data) as port:
        reference = measured(port, request(small, key), seconds=seconds)
    _show("bare FastAPI", reference, reference)
    with served("door", data) as port:
        _show("status, 2 batches", measured(port, request(small, key), seconds=seconds), reference)
        _show("status, 2,000 batches", measured(port, request(large, key), seconds=seconds), reference)
        _show("the same, at a calm pace", measured(port, request(large, key), seconds=seconds, pace=PACE), reference)


def _show(name: str, found: Load, reference: Load) -> None:
    ratio = found.rate / reference.rate
    print(
        f"{name:28} {found.rate:6.0f} a second, {ratio:.2f} of bare, p50 {found.p50:5.1f} ms, p99 {found.p99:5.1f} ms", flush=True
    )


if __name__ == "__main__":
    main()
