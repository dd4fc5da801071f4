"""A door that really listens, on loopback, for what a test client in the same process cannot show: bodies cut off, slow, or huge."""

from __future__ import annotations

import socket
import threading

import uvicorn
from fastapi import FastAPI

_START_S = 20.0


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


class LiveDoor:
    """Has its address from the beginning, so that what it serves may know it; close it after use."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def open(self, app: FastAPI) -> None:
        """Serve `app` from now on."""
        config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
        config.timeout_graceful_shutdown = 5
        self._server = server = _Server(config)
        self._thread = threading.Thread(target=lambda: server.run([self._socket]), name="door")
        self._thread.start()
        assert server.listens.wait(_START_S)

    def close(self) -> None:
        """Stop listening, and wait until it has ended."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_START_S)
            assert not self._thread.is_alive()
        self._socket.close()
