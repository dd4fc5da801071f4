"""POST requests to web servers that users name (callbacks, alerts): limited in time and in what is read, and never into a private
network.

A connection is made to an address that was checked, not to a name, so that a name that resolves to something else the next time
leads nowhere (server-side request forgery). Certificates are checked against the name. Redirects are not followed, and the
environment's proxies are not used. Networks that the operator lists may be called although they are private, and only they
without TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address, ip_network
from threading import Thread
from time import monotonic, time
from typing import Any, Final, NamedTuple

import httpcore2

from postroom.errors import Denied, Unavailable
from postroom.model.networks import is_public

CONNECT_S: Final = 3.0
WHOLE_S: Final = 10.0
MAX_READ: Final = 4_096
"""Bytes of a response body that are read."""
MAX_SENT: Final = 256 * 1024
"""Bytes that a server may send per request, its header included: it could send "100 Continue" without end."""
_IDLE_S: Final = 4.0
"""Less than servers commonly keep a connection without requests (Node.js: 5 s)."""
_BROKEN: Final = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)
_Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class WebResponse(NamedTuple):
    """A server's response."""

    status: int
    text: str
    """Up to `MAX_READ` bytes."""
    retry_after_s: float | None
    """Its Retry-After, as seconds from now."""
    took_ms: int


def trusting_context() -> ssl.SSLContext:
    """TLS with this machine's certificate authorities."""
    return ssl.create_default_context()


class WebClient:
    """The connections to one server, at most `connections`; on one event loop."""

    def __init__(self, *, networks: Sequence[str] = (), connections: int = 16, context: ssl.SSLContext | None = None) -> None:
        """`networks`: private networks that may be called. `context`: shared by several clients; None makes one, which takes some
        milliseconds and a megabyte."""
        pool = partial(
            httpcore2.AsyncConnectionPool,
            context or trusting_context(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_IDLE_S,
        )
        self._sealed = pool(network_backend=_GuardedBackend(networks))
        self._plain = pool(network_backend=_GuardedBackend(networks, plain=True))

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> WebResponse:
        """Raises `Unavailable` if there is no response, `Denied` if the address must not be called (see the module)."""
        began = monotonic()
        try:
            async with asyncio.timeout(WHOLE_S):
                try:
                    status, text, retry_after = await self._exchange(url, headers, body)
                except _BROKEN:  # the server closed an idle connection just then: once more, on another
                    status, text, retry_after = await self._exchange(url, headers, body)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {WHOLE_S:g} s") from error
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError, UnicodeError) as error:
            raise Unavailable(_error_text(error)) from error
        return WebResponse(status, text, retry_after, round((monotonic() - began) * 1000))

    async def close(self) -> None:
        """Close all connections."""
        await self._sealed.aclose()
        await self._plain.aclose()

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, float | None]:
        limits = {"timeout": {"connect": CONNECT_S, "read": WHOLE_S, "write": WHOLE_S, "pool": WHOLE_S}}
        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        pool = self._plain if url[:5].lower() == "http:" else self._sealed
        async with pool.stream("POST", url, headers=given, content=body, extensions=limits) as response:
            read = bytearray()
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) >= MAX_READ:
                    break
            answered = {name.lower(): value for name, value in response.headers}
            return response.status, bytes(read[:MAX_READ]).decode("utf-8", "replace"), _retry_after(answered.get(b"retry-after"))


class _GuardedBackend(httpcore2.AnyIOBackend):
    """Connects only to addresses that may be called."""

    def __init__(self, networks: Sequence[str], *, plain: bool = False) -> None:
        super().__init__()
        self._plain = plain
        self._networks = [ip_network(network) for network in networks]
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"the name {host} was not found in time") from error
        if not all(self._may(address) for address in addresses):
            raise Denied(f"{host} is not on the public Internet")
        if self._plain and not all(map(self._is_inside, addresses)):
            raise Denied(f"{host} may not be called without TLS: it is not in a network of POSTROOM_CALLBACK_NETWORKS")
        last: Exception = OSError(f"{host} has no address")
        for address in addresses:
            try:
                return _BoundedStream(await super().connect_tcp(address, port, timeout, local_address, socket_options))
            except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
                last = error
        raise last

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Simultaneous look-ups of the same name share one query."""
        known = self._asked.get((host, port))
        if known is None:
            known = self._asked[host, port] = _run_in_thread(partial(_look_up, host, port))
            known.add_done_callback(lambda _: self._asked.pop((host, port), None))
        return await asyncio.shield(known)

    def _may(self, address: str) -> bool:
        return is_public(address) or self._is_inside(address)

    def _is_inside(self, address: str) -> bool:
        return any(ip_address(address) in network for network in self._networks)


class _BoundedStream(httpcore2.AsyncNetworkStream):
    """A stream of which at most `MAX_SENT` bytes are read per request."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_SENT

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise httpcore2.NetworkError(f"it sends more than {MAX_SENT // 1024} KB in answer")
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._left = MAX_SENT
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return _BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _run_in_thread(work: Callable[[], list[str]]) -> asyncio.Future[list[str]]:
    """Run a look-up in a thread of its own that nothing waits for: a silent name server blocks it for half a minute, and the
    loop's own threads are few."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(result: list[str] | None, error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
            future.exception()  # the caller may have given up: no warning
        else:
            future.set_result(result or [])

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except (OSError, UnicodeError) as error:
            problem = error
        with suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(settle, result, problem)

    Thread(target=run, daemon=True, name="name look-up").start()
    return future


def _retry_after(value: bytes | None) -> float | None:
    """Seconds, or a date (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return None


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:300]
