"""The outermost layer: a request gets its id, its caller's address, its line in the log; an answer its common header fields.

`X-Request-Id` is taken over where it is sane (so that a caller's log and ours can be laid side by side), else made. It is in the
answer, in problems and in every log line of the request. One access line a request, JSON: method, the path's template (a path may
hold a token), status, milliseconds until the last byte, who, tenant, address. No query, no header.

Whatever no other layer caught ends here, as 500 with the id and nothing else.
"""

from __future__ import annotations

import base64
import logging
import re

import orjson
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.clock import Clock
from postroom.gateway.headers import missing
from postroom.gateway.problems import answer_now
from postroom.gateway.proxies import Proxies
from postroom.telemetry.logs import REQUEST

_SANE = re.compile(rb"[A-Za-z0-9._~-]{8,64}")
_access = logging.getLogger("postroom.gateway.access")


class Requests:
    """ASGI."""

    def __init__(self, app: ASGIApp, *, clock: Clock, proxies: Proxies) -> None:
        self._app = app
        self._clock = clock
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock.monotonic()
        self._proxies.apply(scope)
        request_id = self._request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(scope, send, request_id)
        token = REQUEST.set(request_id)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            problem = answer_now(Request(scope), error)  # logs it
            if exchange.status:  # half an answer is out: the server has to cut the connection
                raise
            await problem(scope, receive, exchange.send)
        finally:
            self._log(scope, exchange.status, began)
            REQUEST.reset(token)

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE.fullmatch(value):
                return str(value, "ascii")
        return base64.b32encode(self._clock.random(10)).decode().lower()

    def _log(self, scope: Scope, status: int, began: float) -> None:
        if not _access.isEnabledFor(logging.INFO):
            return
        principal = scope["state"].get("principal")
        line = {
            "method": scope["method"],
            "route": getattr(scope.get("route"), "path", None),
            "status": status,
            "ms": round((self._clock.monotonic() - began) * 1_000, 1),
            "caller": principal and f"{principal.kind}:{principal.id}",
            "tenant": principal and principal.tenant,
            "address": scope["client"] and scope["client"][0],
            "request": scope["state"]["request_id"],
        }
        _access.info("%s", orjson.dumps(line).decode())


class _Exchange:
    """The answer's way out."""

    __slots__ = ("_request_id", "_scope", "_send", "status")

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._request_id = request_id.encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", ()))
            fields = [*given, (b"x-request-id", self._request_id), *missing(self._scope, given)]
            message = {**message, "headers": fields}
        await self._send(message)
