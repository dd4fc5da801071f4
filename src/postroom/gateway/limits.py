"""How many requests may be in progress, how large a body may be, and how long a request may take.

A handler that exceeds its time is not stopped, because its thread cannot be: the caller is answered 503 and the handler's
effects still happen. Repeating a POST with its `Idempotency-Key` returns the outcome. The time ends with the first byte of the
response, so downloads and exports may take longer; bodies under `streamed` may have any size and time, and their handlers count
for themselves.

`ConcurrencyLimit`: work that costs processor time. A few requests work at once, a few wait, the rest is refused. They wait in
threads that all requests share, so the places leave most of those free, and one tenant cannot take all places.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import Temporary
from postroom.gateway.bodies import limited
from postroom.gateway.errors import Overloaded, problem_response

_ALIVE = frozenset({"/healthz", "/readyz"})
"""Answered even if no slot is free."""
_PLACE = "postroom.place"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one process."""

    body: int = 1_000_000
    """Bytes, unless a route allows more (gateway.bodies)."""
    body_s: float = 20.0
    """Seconds to read a body, or the next part of one without a size limit. Less than `handle_s`, which includes it."""
    handle_s: float = 30.0
    """Seconds from the request's head to the response's. API Gateway's limit is 29 s."""
    in_progress: int = 2_000
    """Requests in progress, long polls included."""
    unauthenticated: int = 500
    """Of these, requests without credentials: slow forms and bodies leave room for authenticated callers."""
    per_tenant: int = 1_500
    """Of these, requests of one tenant, until their responses end: its long polls and slow downloads leave room for other
    tenants."""
    handlers: int = 240
    """Handlers running (40, the number of threads) or waiting for a thread: at 5 ms each, a second's work."""
    streamed: tuple[str, ...] = ("/transfers/",)
    """Paths whose bodies may have any size and take any time."""


class LimitsMiddleware:
    def __init__(self, app: ASGIApp, *, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits
        self._places = _RequestSlots(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALIVE:
            await self._app(scope, receive, send)
            return
        try:
            place = scope[_PLACE] = self._places.take(scope)
        except Overloaded as error:
            await problem_response(Request(scope), error)(scope, receive, send)
            return
        try:
            await self._timed(scope, receive, send)
        finally:
            place.leave()

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        streamed = scope["path"].startswith(limits.streamed)
        receive = limited(scope, receive, most=None if streamed else limits.body, seconds=limits.body_s)
        if streamed:
            await self._app(scope, receive, send)
            return
        timed = _ResponseTimeout(scope, receive, send, limits.handle_s)
        try:
            await self._app(scope, receive, timed.send)
        finally:
            await timed.close()


class _RequestSlots:
    """Counts requests in progress, by tenant. Used by the event loop only."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.taken = 0
        self.unauthenticated = 0
        self.tenants: Counter[str] = Counter()

    def take(self, scope: Scope) -> RequestSlot:
        """Raises `Overloaded` if no slot is free."""
        unauthenticated = not scope["path"].startswith("/v1/") or all(name != b"authorization" for name, _ in scope["headers"])
        if self.taken >= self.limits.in_progress or (unauthenticated and self.unauthenticated >= self.limits.unauthenticated):
            raise Overloaded("too many requests are in progress; nothing was done")
        self.taken += 1
        self.unauthenticated += unauthenticated
        return RequestSlot(self, unauthenticated=unauthenticated)


class RequestSlot:
    """One request's slot."""

    __slots__ = ("_places", "_tenant", "_unauthenticated")

    def __init__(self, places: _RequestSlots, *, unauthenticated: bool) -> None:
        self._places = places
        self._unauthenticated = unauthenticated
        self._tenant: str | None = None

    def give_to(self, tenant: str) -> None:
        """Count it for the tenant, once authenticated. Raises `Overloaded` if the tenant has too many."""
        if self._places.tenants[tenant] >= self._places.limits.per_tenant:
            raise Overloaded("too many requests of this tenant are in progress; nothing was done")
        self._places.tenants[tenant] += 1
        self._tenant = tenant

    def leave(self) -> None:
        """Free the slot once the response has ended."""
        self._places.taken -= 1
        self._places.unauthenticated -= self._unauthenticated
        if self._tenant is not None:
            self._places.tenants[self._tenant] -= 1
            if not self._places.tenants[self._tenant]:
                del self._places.tenants[self._tenant]


def slot_of(scope: Scope) -> RequestSlot | None:
    """The request's slot; None outside the middleware."""
    place: RequestSlot | None = scope.get(_PLACE)
    return place


class _ResponseTimeout:
    """Sends the handler's response until the time limit; afterwards a 503."""

    __slots__ = ("_answer", "_receive", "_scope", "_send", "_started", "_timer")

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = False
        self._answer: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    async def send(self, message: Message) -> None:
        if self._answer is not None:  # too late
            return
        if not self._started:
            self._started = True
            self._timer.cancel()
        await self._send(message)

    async def close(self) -> None:
        self._timer.cancel()
        if self._answer is not None:
            await self._answer

    def _expire(self) -> None:
        problem = problem_response(Request(self._scope), Temporary("the handler is still at work"))
        self._answer = asyncio.get_running_loop().create_task(problem(self._scope, self._receive, self._send))


WORKING = 2
PLACES = 12
"""Running or waiting, of 40 threads."""
PER_TENANT = 6


class ConcurrencyLimit:
    """Slots for one kind of work. `what` names it, such as `templates are being checked`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._work = threading.BoundedSemaphore(WORKING)

    @property
    def count(self) -> int:
        """Running or waiting."""
        return self._taken.total()

    @contextmanager
    def slot(self, tenant: str) -> Iterator[None]:
        """Hold a slot during the work; blocks until it may run. Raises `Overloaded` if too many wait."""
        with self._guard:
            if self._taken[tenant] >= PER_TENANT or self.count >= PLACES:
                raise Overloaded(f"too many {self._what} at the moment; nothing was done")
            self._taken[tenant] += 1
        try:
            with self._work:
                yield
        finally:
            with self._guard:
                self._taken -= Counter({tenant: 1})
