"""Connections under the real server: nobody holds one for nothing, and nobody fills the memory with what is no call yet."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from postroom.entrypoints.server.http_server import HttpConnection
from tests.gateway.frame_kit import Things, door
from tests.gateway.server_kit import served

HEAD = b"Host: door.example\r\nAuthorization: Bearer editor acme\r\n"
GET = b"GET /v1/things/a HTTP/1.1\r\n" + HEAD
CHUNKED = b"POST /v1/things HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b'c\r\n{"name":"a"}\r\n'
ENOUGH = 20_000_000


class Impatient(HttpConnection):
    head_s = 0.3
    stall_s = 0.3


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)


def ends(line: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    came = b""
    with suppress(ConnectionResetError):
        while part := line.recv(65_536):
            came += part
    return came


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET + b"X: y", b"\r\n"], ids=["nothing", "part-of-a-line", "part", "blank"])
def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    with served(lambda _: door(Things()), Impatient) as url, connect(url) as line:
        line.sendall(sent)
        assert ends(line) == b""


def test_nor_is_the_next_one_after_an_answer() -> None:
    with served(lambda _: door(Things()), Impatient) as url, connect(url) as line:
        line.sendall(GET + b"\r\n")
        assert line.recv(65_536).startswith(b"HTTP/1.1 200")
        line.sendall(b"\r\n")  # ends uvicorn's own waiting
        assert ends(line) == b""


def test_who_is_slow_with_a_body_is_not_taken_for_silent() -> None:
    """Its time is the application's affair."""
    with served(lambda _: door(Things()), Impatient) as url, connect(url) as line:
        line.sendall(CHUNKED)
        line.settimeout(2 * Impatient.head_s)
        with pytest.raises(TimeoutError):
            line.recv(1)
        line.settimeout(10)
        line.sendall(BODY + b"0\r\n\r\n")
        assert line.recv(65_536).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize(
    "begin",
    [GET + b"X: ", b"GET /", CHUNKED + BODY + b"0\r\nX: ", GET + b"\r\n" + GET + b"X: "],
    ids=["field", "line", "end", "second"],
)
def test_fields_without_end_are_refused_long_before_they_fill_the_memory(begin: bytes) -> None:
    with served(lambda _: door(Things())) as url, connect(url) as line:
        line.sendall(begin)
        took = 0
        with suppress(ConnectionError):
            while took < ENOUGH:
                took += line.send(b"a" * 65_536)
        assert took < ENOUGH


def test_a_head_of_32_kilobytes_is_fine() -> None:
    with served(lambda _: door(Things())) as url, connect(url) as line:
        for part in (GET + b"X: ", b"a" * 32_000, b"\r\n\r\n"):
            line.sendall(part)
        assert line.recv(65_536).startswith(b"HTTP/1.1 200")


def test_who_does_not_take_the_answer_is_let_go() -> None:
    lost = threading.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not lost.is_set():
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})

    class Watched(Impatient):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()
            super().connection_lost(exc)

    with served(lambda _: endless, Watched) as url, connect(url) as line:
        line.sendall(GET + b"\r\n")
        assert lost.wait(5)
