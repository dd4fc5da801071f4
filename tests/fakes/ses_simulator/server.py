"""The simulator's HTTP, connection by connection."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

import httptools

from tests.fakes.ses_simulator import signature
from tests.fakes.ses_simulator.api import Reply, error
from tests.fakes.ses_simulator.rules import Rule

if TYPE_CHECKING:
    from tests.fakes.ses_simulator.simulator import SesSimulator

SEND = "/v2/email/outbound-emails"
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 413: "Too Large", 429: "Too Many Requests"}


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, simulator: SesSimulator) -> None:
        self.simulator = simulator
        self.number = 0
        self._calls = 0
        self._deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.number = self.simulator.opened(self)
        most = self.simulator.options.max_connections
        if most is not None and len(self.simulator.open) > most:
            self.transport.abort()
            return
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.simulator.open.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            self.simulator.violation(f"not HTTP: {problem!r}")
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}
        self._rule: Rule | None = None
        self._answered = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        """What happens before the body can only be for everybody: whom it is for stands in the body."""
        rule = self.simulator.rule("", {"refuse", "drop_head", "deafen"}) if self._url == SEND.encode() else None
        if rule is None:
            return
        self._answered = True
        match rule.action:
            case "refuse":
                self._write(error(rule.status, rule.kind, rule.text), close=True)
            case "drop_head":
                self.transport.abort()
            case _:
                self._deaf = True
                self.transport.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._answered or self.transport.is_closing():
            return
        self._calls += 1
        self.simulator.called()
        path, body = self._url.decode(), bytes(self._body)
        method = self._parser.get_method().decode()
        page = self.simulator.page(path) if method == "GET" else None
        if page is not None:
            self._raw(200, page, "text/plain")
            return
        fault = signature.fault(method, path, self._headers, body, self.simulator.options)
        if fault is not None:
            self.simulator.violation(f"{method} {path}: {fault}")
            self._write(error(403, *fault))
        elif method == "GET":
            self._write(self.simulator.api.get(path))
        elif path == SEND:
            self._send(body)
        else:
            self._write(error(404, "UnknownOperationException", "no such operation"))

    def _send(self, body: bytes) -> None:
        api = self.simulator.api
        rule = self.simulator.rule(api.recipient(body))
        if rule is None:
            self._write(api.send(body, self.number))
            return
        if rule.action.startswith(("accept", "late")):
            reply = api.send(body, self.number)
        else:
            reply = error(rule.status, rule.kind, rule.text)
        if rule.action == "late":
            asyncio.get_running_loop().call_later(rule.seconds, self._write, reply)
        else:
            self._misbehave(rule.action.removeprefix("accept_"), reply)

    def _misbehave(self, how: str, reply: Reply) -> None:
        match how:
            case "error":
                self._write(reply)
            case "drop":
                self.transport.abort()
            case "cut":
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{")
                self.transport.close()
            case "garble":
                self.transport.write(b"250 2.0.0 Ok\r\n")
            case "twice":
                self._write(reply, times=2)
            case "close":
                self._write(reply, close=True)
            case "hang_up":
                self._write(reply)
                self.transport.close()

    def _write(self, reply: Reply, *, close: bool = False, times: int = 1) -> None:
        most = self.simulator.options.max_calls
        close = close or (most is not None and self._calls >= most)
        kind = f"X-Amzn-ErrorType: {reply.kind}:http://internal.amazon.com/coral/\r\n" if reply.kind else ""
        self._raw(reply.status, json.dumps(reply.document).encode(), "application/json", kind, close=close, times=times)

    def _raw(self, status: int, body: bytes, content_type: str, fields: str = "", *, close: bool = False, times: int = 1) -> None:
        if self.transport.is_closing():
            return
        closing = "Connection: close\r\n" if close else ""
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Odd')}\r\nContent-Type: {content_type}\r\n{fields}{closing}"
        self.transport.write((f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body) * times)
        if close:
            self.transport.close()
