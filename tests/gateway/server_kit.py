"""An ASGI application on a real socket of this machine, for clients that speak HTTP themselves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from postroom.entrypoints.server.http_server import HttpConnection

_PATIENCE_S = 10


class _Server(uvicorn.Server):
    """Tells when it listens; signals are the test runner's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def served(make: Callable[[str], ASGIApp], http: type[HttpConnection] = HttpConnection) -> Iterator[str]:
    """The address (http://127.0.0.1:port) of the application that `make` builds for it; stopped at the end. `http`: how
    connections are."""
    door = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    server = _Server(uvicorn.Config(make(url), lifespan="off", log_config=None, access_log=False, ws="none", http=http))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        assert server.listens.wait(_PATIENCE_S), "the server did not start"
        yield url
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)
        door.close()
    assert not thread.is_alive()
