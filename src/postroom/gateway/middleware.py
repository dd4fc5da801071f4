"""The outermost layer of the API: client address, request id, access log and common header fields.

- Client address: the peer's, or, if the peer is a trusted proxy, from `X-Forwarded-For`. Each proxy appends the address it was
  called from, so the client is the rightmost address that is not a trusted proxy; what the client itself wrote stays left of it.
  `X-Forwarded-Proto` counts only from a trusted peer. `Forwarded` and `X-Forwarded-Host` are ignored.
- Request id: the caller's `X-Request-Id` if it is well-formed, else a new one. It is in the response, in problems and in every
  log line of the request.
- Access log: one `request.completed` event a request under the logger `postroom.gateway.access`: method, route template (a path
  may hold a token), status, milliseconds until the last byte, caller, tenant and address. No query and no header fields.
- Header fields that every response carries unless its handler set them.

An exception that no other layer handled ends here as 500 with the request id.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.clock import Clock
from postroom.gateway.errors import problem_response
from postroom.telemetry.logs import REQUEST, event_logger

_SCHEMES = {b"http": "http", b"https": "https"}


class TrustedProxies:
    """The proxies in `networks`."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def apply(self, scope: Scope) -> None:
        """Set the client's address and scheme in the scope if the peer is a trusted proxy."""
        peer = scope.get("client")
        if not self._networks or peer is None or not self._trusts(_address(peer[0])):
            return
        hops: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                scope["scheme"] = _SCHEMES.get(value.rpartition(b",")[2].strip().lower(), scope["scheme"])
        caller = self._caller(hops)
        if caller is not None:
            scope["client"] = (str(caller), 0)

    def _caller(self, hops: list[str]) -> IPv4Address | IPv6Address | None:
        caller = None
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:  # invalid, such as "unknown": addresses left of it cannot be trusted
                return caller
            caller = address
            if not self._trusts(address):
                return caller
        return caller

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def client_network(address: str) -> str:
    """The unit in which clients are counted: an IPv4 address, or the /64 of an IPv6 address, which is one customer's."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return address if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address that may have brackets, a port or a zone. IPv4-mapped IPv6 becomes IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


Raw = list[tuple[bytes, bytes]]

_ALWAYS: Raw = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]

"""The policy is for JSON, for which a browser must load nothing. Pages set their own."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_NO_STORE = (b"cache-control", b"no-store")
_ASK_FIRST = (b"cache-control", b"private, no-cache")
"""For responses with an ETag: cached by the caller only, and revalidated each time."""
EXPOSED_HEADERS = ("ETag", "Idempotent-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id")
"""Fields that scripts of other origins may read."""


def default_headers(scope: Scope, given: Raw) -> Iterator[tuple[bytes, bytes]]:
    """Fields to add to `given`."""
    names = {name.lower() for name, _ in given}
    for field in _ALWAYS:
        if field[0] not in names:
            yield field
    if scope["scheme"] == "https" and _HSTS[0] not in names:
        yield _HSTS
    if b"cache-control" not in names and scope["path"].startswith("/v1/"):
        yield _ASK_FIRST if b"etag" in names else _NO_STORE


_SANE = re.compile(rb"[A-Za-z0-9._~-]{8,64}")
_access = event_logger("postroom.gateway.access")


class RequestMiddleware:
    def __init__(self, app: ASGIApp, *, clock: Clock, proxies: TrustedProxies) -> None:
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
        exchange = _Response(scope, send, request_id)
        token = REQUEST.set(request_id)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            problem = problem_response(Request(scope), error)  # logs it
            if exchange.status:  # part of the response was sent: the server must close the connection
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
        principal = scope["state"].get("principal")
        _access.info(
            "request.completed",
            method=scope["method"],
            route=getattr(scope.get("route"), "path", None),
            status=status,
            ms=round((self._clock.monotonic() - began) * 1_000, 1),
            caller=principal and f"{principal.kind}:{principal.id}",
            tenant=principal and principal.tenant,
            address=scope["client"] and scope["client"][0],
            request=scope["state"]["request_id"],
        )


class _Response:
    """Adds the header fields, and records what was sent."""

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
            fields = [*given, (b"x-request-id", self._request_id), *default_headers(self._scope, given)]
            message = {**message, "headers": fields}
        await self._send(message)
