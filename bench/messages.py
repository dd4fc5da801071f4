"""Accepting single messages durably, through the whole door in this process, as a ratio to a bare one in the same run.

    python -m bench.messages [--calls N]

As many callers at a time as the server has threads. The reference is FastAPI with one route that reads a JSON object and inserts
it into SQLite, one synced transaction a call: what the simplest thing that loses nothing does. One core for either.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message
from tests.fakes.transactional import HTML, transactional_bench
from tests.gateway.kit import app_of

from postroom.gateway.routes.messages import message_routes

CALLERS = 32
_HEADERS = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sender default"), (b"host", b"door.example")]
Body = Callable[[int], bytes]


async def call(app: ASGIApp, body: bytes) -> int:
    """One POST /v1/messages; the status."""
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/messages",
        "raw_path": b"/v1/messages",
        "root_path": "",
        "query_string": b"",
        "headers": [*_HEADERS, (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("door.example", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return status


async def rate(app: ASGIApp, body: Body, calls: int) -> float:
    """Calls a second, each answered with 202."""
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            if await call(app, body(number)) != 202:
                raise SystemExit("a message was not accepted")

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - began)


def one(number: int) -> bytes:
    """A message from HTML that all share."""
    return json.dumps(_message(number, HTML)).encode()


def own(number: int) -> bytes:
    """A message with HTML of its own: compiled and stored for it alone."""
    return json.dumps(_message(number, f"{HTML}<p>{number}</p>")).encode()


def hundred(number: int) -> bytes:
    """A hundred messages in one call."""
    return json.dumps([_message(number * 100 + n, HTML) for n in range(100)]).encode()


def _message(number: int, html: str) -> dict[str, Any]:
    variables = {"name": "Anna", "code": number}
    return {"to": f"p{number}@example.org", "from": "o@shop.example", "subject": "x", "html": html, "variables": variables}


def bare(directory: Path) -> FastAPI:
    """The reference: FastAPI with one route that inserts into SQLite."""
    app, guard = FastAPI(), threading.Lock()
    database = sqlite3.connect(directory / "bare.db", check_same_thread=False, isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE message (body TEXT)")

    @app.post("/v1/messages", status_code=202)
    def accept(body: dict[str, Any]) -> dict[str, str]:
        with guard:
            database.execute("INSERT INTO message VALUES (?)", (json.dumps(body),))
        return {"status": "accepted"}

    return app


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_500)
    calls = parser.parse_args().calls
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=".") as directory, transactional_bench(Path(directory)) as made:
        app = app_of(message_routes(made.service))
        asyncio.run(rate(app, one, 200))  # warm
        reference = asyncio.run(rate(bare(Path(directory)), one, calls))
        accepted = asyncio.run(rate(app, one, calls))
        with_own = asyncio.run(rate(app, own, calls // 2))
        in_bulk = asyncio.run(rate(app, hundred, max(1, calls // 100))) * 100
    print(f"bare FastAPI, a synced insert each    {reference:7.0f} messages/s")
    for name, found in (("one a call", accepted), ("one a call, HTML of its own", with_own), ("a hundred a call", in_bulk)):
        print(f"{name:37} {found:7.0f} messages/s, {found / reference:.2f} of it", flush=True)


if __name__ == "__main__":
    main()
