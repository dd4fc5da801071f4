"""The frame under the real server: connections survive what may be survived, and are closed where they may not."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from postroom.gateway.limits import RequestLimits
from tests.gateway.frame_kit import Things, door
from tests.gateway.server_kit import served

HEAD = "Host: door.example\r\nAuthorization: Bearer editor acme\r\n"
GET = f"GET /v1/things/a HTTP/1.1\r\n{HEAD}\r\n".encode()


@contextmanager
def connected(url: str) -> Iterator[tuple[socket.socket, BinaryIO]]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as line, line.makefile("rb") as answers:
        yield line, answers


def read(answers: BinaryIO) -> tuple[int, dict[str, str], bytes]:
    """One answer."""
    status = int(answers.readline().split()[1])
    fields = {}
    while (line := answers.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.lower()] = value.strip()
    return status, fields, answers.read(int(fields["content-length"]))


def post(length: int, body: bytes) -> bytes:
    fields = f"{HEAD}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    return f"POST /v1/things HTTP/1.1\r\n{fields}".encode() + body


def test_a_connection_goes_on_after_refusals() -> None:
    things = Things()
    with served(lambda _: door(things)) as url, connected(url) as (line, answers):
        line.sendall(post(1, b"{"))
        assert read(answers)[0] == 422
        line.sendall(f"DELETE /v1/things HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert read(answers)[0] == 405
        line.sendall(GET)
        assert read(answers)[0] == 200


def test_a_body_too_large_is_refused_before_it_comes_and_the_connection_closed() -> None:
    with served(lambda _: door(Things())) as url, connected(url) as (line, answers):
        line.sendall(post(2_000_000, b""))
        status, fields, _ = read(answers)
        assert (status, fields["connection"]) == (413, "close")
        assert answers.read() == b""


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    with served(lambda _: door(Things(), limits=RequestLimits(body_s=0.05))) as url, connected(url) as (line, answers):
        line.sendall(post(10, b"{"))
        assert read(answers)[0] == 408
        assert answers.read() == b""


def test_the_line_is_free_again_while_a_late_handler_goes_on() -> None:
    released = threading.Event()

    def hold() -> None:
        assert released.wait(10)

    things = Things(before=hold)
    with served(lambda _: door(things, limits=RequestLimits(handle_s=0.05))) as url, connected(url) as (line, answers):
        try:
            line.sendall(GET)
            status, fields, _ = read(answers)
            assert (status, "retry-after" in fields) == (503, True)
            line.sendall(GET.replace(b"/v1/things/a", b"/openapi.json"))
            assert read(answers)[0] == 200
        finally:
            released.set()


def test_a_caller_who_goes_away_in_the_middle_is_no_mistake_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with served(lambda _: door(Things())) as url, connected(url) as (line, answers):
        line.sendall(post(100, b"{"))
        line.shutdown(socket.SHUT_RDWR)
        assert answers.read() == b""
    logged = [record for record in caplog.records if record.name == "postroom.gateway.access"]
    assert [record.__dict__["fields"]["status"] for record in logged] == [499]
    assert "request.crashed" not in caplog.text
