"""The HTTP server process: the application under uvicorn, on a socket that the parent holds.

uvicorn reads header fields of any size, and waits without limit for them and for clients that do not read their responses: a few
thousand such connections would occupy the process. `HttpConnection` limits both. From the first byte of a body on the application
limits (gateway.bodies, gateway.incoming); between two calls uvicorn does (`timeout_keep_alive`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from postroom.entrypoints.application import application
from postroom.entrypoints.server.process import Stop, supervised
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.settings import Settings
from postroom.wiring import Container

HEAD_BYTES = 65_536
"""Limit for the request line and all header fields, or the trailer fields after the last chunk."""
HEAD_S = 20.0
"""Seconds from the connection, or the first byte after a response, to the end of the header fields."""
STALL_S = 60.0
"""Seconds for the client to read 48 KB of a response."""


class HttpConnection(HttpToolsProtocol):
    """One client's connection, with limits on the size of its header fields and on the time it may take."""

    head_s = HEAD_S
    stall_s = STALL_S

    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _fields = 0
    """Number of header and trailer sections that have begun."""
    _reading_fields = False
    _held = 0
    """Bytes of the current section, which uvicorn keeps until it is complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is None and self._is_idle():
            self._expect_head()
        before = self._fields
        super().data_received(data)
        self._held = self._held + len(data) if self._fields == before else 0
        if self._reading_fields and self._held > HEAD_BYTES:
            self._refuse()

    def on_message_begin(self) -> None:
        self._begin_fields()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reading_fields = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """After the last chunk trailer fields may come."""
        self._begin_fields()

    def on_body(self, body: bytes) -> None:
        self._reading_fields = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading_fields = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(self.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._go_on()
        super().resume_writing()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _begin_fields(self) -> None:
        self._fields += 1
        self._reading_fields = True

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.head_s, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.send_400_response("The header fields are too large.")
        else:  # a response is being sent: nothing may come between
            self.transport.abort()


_GRACE_S = 15
"""For calls under way at shutdown; long polls end before."""
_IDLE_S = 30
"""How long a connection may stay open between two calls: longer than the proxies' usual pool time costs nothing."""


def run(container: Container, listener: socket.socket) -> None:
    """Serve on a listening socket until asked to stop."""
    status_cache = StatusCache(container.status, container.clock)
    server = _Server(_config(application(container, status_cache), container.settings))

    async def serve(stop: Stop) -> None:
        serving = asyncio.create_task(server.serve([listener]))
        stopping = asyncio.create_task(stop.event.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        status_cache.close()
        server.should_exit = True
        await serving

    uvloop.run(supervised(serve))


class _Server(uvicorn.Server):
    """Leaves signals to `process.supervised`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="none",
        http=HttpConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
