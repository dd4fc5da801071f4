"""The door as a process: the application under uvicorn, on a socket that the parent holds."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from fastapi import FastAPI

from postroom.entrypoints.application import application
from postroom.entrypoints.connection import Connection
from postroom.entrypoints.process import Stop, attended
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.settings import Settings
from postroom.wiring import Postroom

_GRACE_S = 15
"""For calls under way when the door is to close; the longest poll is told to end before."""
_IDLE_S = 30
"""How long a connection may stay open between two calls: longer than the proxies' usual pool time costs nothing."""


def run(postroom: Postroom, door: socket.socket) -> None:
    """Answer on a socket that listens already, until told to stop."""
    board = StatusCache(postroom.status, postroom.clock)
    server = _Server(_config(application(postroom, board), postroom.settings))

    async def serve(stop: Stop) -> None:
        serving = asyncio.create_task(server.serve([door]))
        stopping = asyncio.create_task(stop.event.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        board.close()
        server.should_exit = True
        await serving

    uvloop.run(attended(serve))


class _Server(uvicorn.Server):
    """Signals are the process frame's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="none",
        http=Connection,
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
