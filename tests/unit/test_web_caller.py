"""One POST to a server that somebody named: bounded, and never into a private network."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from postroom.errors import Denied, Unavailable
from postroom.platform.web import client
from postroom.platform.web.client import MAX_READ, MAX_SENT, WebClient, WebResponse
from tests.fakes.certificates import make_certificate

HERE = ["127.0.0.0/8"]
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answering) -> AsyncIterator[str]:
    """The URL of a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hook"


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(length)


def replies(status: str, body: bytes = b"ok", *fields: str) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""])
            writer.write(head.encode() + body)
            await writer.drain()

    return answer


def posted(answer: Answering, networks: list[str] = HERE, times: int = 1) -> list[WebResponse]:
    async def run() -> list[WebResponse]:
        async with server(answer) as url:
            made = WebClient(networks=networks)
            try:
                return [await made.post(url, {"webhook-id": "a"}, b"{}") for _ in range(times)]
            finally:
                await made.close()

    return asyncio.run(run())


def test_what_is_sent_is_what_arrives() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    (answered,) = posted(answer)
    assert (answered.status, answered.text) == (204, "")
    ((head, body),) = seen
    assert head.startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"webhook-id: a\r\n" in head.lower()
    assert body == b"{}"


def test_a_redirect_is_an_answer_and_nothing_more() -> None:
    (answered,) = posted(replies("302 Found", b"", "Location: http://127.0.0.1:1/"))
    assert answered.status == 302


@pytest.mark.parametrize(
    ("value", "expected"), [("120", 120.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-5", None), ("\xb2", None)]
)
def test_when_to_come_again_is_read(value: str, expected: float | None) -> None:
    (answered,) = posted(replies("503 Busy", b"", f"Retry-After: {value}"))
    assert answered.retry_after_s == expected


def test_of_a_long_answer_the_beginning_is_read() -> None:
    (first, second) = posted(replies("200 OK", b"x" * 5_000_000), times=2)
    assert first.text == second.text == "x" * MAX_READ


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WHOLE_S", 0.05)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(Unavailable, match="no answer within"):
        posted(answer)


def test_a_server_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WHOLE_S", 0.1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(Unavailable):
        posted(answer)


def test_a_server_that_says_go_on_without_end_is_given_up() -> None:
    """It would keep a processor busy until the time is over, for each request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)
            await writer.drain()

    with pytest.raises(Unavailable, match=f"more than {MAX_SENT // 1024} KB"):
        posted(answer)


def test_what_a_server_may_send_is_counted_anew_with_each_request() -> None:
    long = "X-Long: " + "x" * 60_000
    assert {each.status for each in posted(replies("200 OK", b"ok", long), times=8)} == {200}


@pytest.mark.parametrize("garbage", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\r\n\r\n"])
def test_what_is_no_http_is_no_answer(garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(garbage)

    with pytest.raises(Unavailable):
        posted(answer)


def test_this_machine_is_not_called_unless_that_is_allowed() -> None:
    with pytest.raises(Denied, match="not on the public Internet"):
        posted(replies("200 OK"), networks=[])
    with pytest.raises(Denied):
        posted(replies("200 OK"), networks=["10.0.0.0/8"])


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_a_name_that_leads_into_a_private_network_is_not_called(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Nor is one that has a public address besides: which is called would be luck."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found: list[Any] = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443)),
        (family, socket.SOCK_STREAM, 6, "", (address, 443)),
    ]

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)

    async def run() -> None:
        made = WebClient()
        try:
            await made.post("http://shop.example/", {}, b"{}")
        finally:
            await made.close()

    with pytest.raises(Denied):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "address", "called"),
    [
        ("http://shop.example/", "93.184.216.34", False),
        ("http://inside.example/", "10.1.2.3", True),
        ("https://shop.example/", "93.184.216.34", True),
    ],
)
def test_without_tls_only_networks_of_ones_own_are_called(
    monkeypatch: pytest.MonkeyPatch, url: str, address: str, called: bool
) -> None:
    """Whatever a name resolves to: what happened to people's mail crosses no network of others in the clear."""
    dialled: list[str] = []

    async def connect(_self: object, host: str, *_args: object, **_options: object) -> httpcore2.AsyncNetworkStream:
        dialled.append(host)
        raise httpcore2.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [(2, 1, 6, "", (address, 80))])

    async def run() -> None:
        made = WebClient(networks=["10.0.0.0/8"])
        try:
            await made.post(url, {}, b"{}")
        finally:
            await made.close()

    with pytest.raises(Unavailable if called else Denied, match="nobody is there" if called else "without TLS"):
        asyncio.run(run())
    assert dialled == [address] * called


def test_a_name_that_nobody_has_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_args: object, **_options: object) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def run() -> None:
        made = WebClient()
        try:
            await made.post("https://nobody.example/", {}, b"{}")
        finally:
            await made.close()

    with pytest.raises(Unavailable, match="Name or service not known"):
        asyncio.run(run())


def test_a_name_server_that_is_silent_holds_up_its_own_requests_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.05)
    answered, asked = threading.Event(), list[str]()

    def resolve(host: str, *_args: object, **_options: object) -> list[Any]:
        asked.append(host)
        answered.wait(10)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def run() -> list[BaseException | WebResponse]:
        made = WebClient()
        try:
            posts = [made.post("https://lost.example/", {}, b"{}") for _ in range(16)]
            found = await asyncio.gather(*posts, return_exceptions=True)
            assert await asyncio.to_thread(lambda: "free") == "free"
            return found
        finally:
            await made.close()

    found = asyncio.run(run())
    answered.set()
    assert [str(each) for each in found] == ["ConnectTimeout: the name lost.example was not found in time"] * 16
    assert asked == ["lost.example"], "asked once for all"


def test_the_certificate_is_asked_for_the_name_not_for_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ours is for `localhost` and 127.0.0.1 (tests.fakes.certificates). And the request names it too."""
    certificate, key = make_certificate(tmp_path)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    context = ssl.create_default_context(cafile=str(certificate))
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await request(reader))[0])
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def run(name: str) -> WebResponse:
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving) as listening:
            port = listening.sockets[0].getsockname()[1]
            here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: here)
            made = WebClient(networks=HERE, context=context)
            try:
                return await made.post(f"https://{name}:{port}/hook", {}, b"{}")
            finally:
                await made.close()

    assert asyncio.run(run("localhost")).status == 204
    assert b"\r\nhost: localhost:" in heads[0].lower()
    with pytest.raises(Unavailable, match="certificate verify failed"):
        asyncio.run(run("other.example"))
