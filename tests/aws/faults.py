"""Faults of a connection to AWS, scripted: a process killed before its n-th request, an answer lost, somebody in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ReadTimeoutError


class Killed(BaseException):
    """The process is no more. No `except Exception` sees it."""


class Mortal:
    """Lets `lives` requests of a client out, none after; `revive` ends that."""

    def __init__(self, client: Any, lives: int) -> None:
        self._lives = lives
        self._client = client
        self._lock = threading.Lock()
        self.died = False
        client.meta.events.register("before-call.*.*", self._count)

    def _count(self, **_: Any) -> None:
        with self._lock:
            self._lives -= 1
            if self._lives < 0:
                self.died = True
                raise Killed

    def revive(self) -> None:
        """What a stopped process does when it goes on."""
        self._client.meta.events.unregister("before-call.*.*", self._count)


class LostAnswers:
    """The first answer to each of these operations is lost: the request is carried out, botocore sees a time-out and repeats.
    Other operations pass. `meanwhile` runs between the two."""

    def __init__(self, client: Any, *operations: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.lost = 0
        self._send = client._endpoint.http_session.send
        self._meanwhile = meanwhile
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()
        for operation in operations:
            client.meta.events.register(f"before-send.*.{operation}", self._lose)

    def _lose(self, request: Any, **_: Any) -> None:
        what = request.method.encode() + request.url.encode() + (request.body if isinstance(request.body, bytes) else b"")
        with self._lock:
            if what in self._seen:
                return
            self._seen.add(what)
            self.lost += 1
        self._send(request)
        self._meanwhile()
        raise ReadTimeoutError(endpoint_url=request.url)


class Delayed:
    """The first request of an operation is lost on its way, botocore repeats it, and the network brings it after all when
    `arrive` is called; the answer's HTTP status."""

    def __init__(self, client: Any, operation: str) -> None:
        self._send = client._endpoint.http_session.send
        self._held: Any = None
        client.meta.events.register(f"before-send.*.{operation}", self._hold)

    def _hold(self, request: Any, **_: Any) -> None:
        if self._held is None:
            self._held = request
            raise ReadTimeoutError(endpoint_url=request.url)

    def arrive(self) -> int:
        return int(self._send(self._held).status_code)


class Interruption:
    """Runs `action` once, right before the n-th request of these operations is sent."""

    def __init__(self, client: Any, n: int, action: Callable[[], object], *operations: str) -> None:
        self._left = n
        self._action = action
        self._lock = threading.Lock()
        self.happened = False
        for operation in operations:
            client.meta.events.register(f"before-send.*.{operation}", self._count)

    def _count(self, **_: Any) -> None:
        with self._lock:  # held while it runs: whoever comes after is sent after it
            self._left -= 1
            if self._left == -1:
                self._action()
                self.happened = True
