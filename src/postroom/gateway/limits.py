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
"""Answered also when there is no room for anything else."""
_PLACE = "postroom.place"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Of one door process."""

    body: int = 1_000_000
    """Bytes, unless a route takes more (gateway.bodies)."""
    body_s: float = 20.0
    """For reading a body; where it may have any size, for its next part. Less than `handle_s`, which it is a part of."""
    handle_s: float = 30.0
    """From the request's head to the answer's. API Gateway gives 29 s."""
    in_progress: int = 2_000
    """Requests, those that wait for a change included."""
    unauthenticated: int = 500
    """Of them, those that show no credentials: forms and bodies of anybody that come slowly leave room for all who do."""
    per_tenant: int = 1_500
    """Of them, until their answers have ended: who waits for changes or reads exports slowly leaves room for other tenants."""
    handlers: int = 240
    """Handlers at work (40 at once, as many as there are threads) or waiting for a thread: at 5 ms each, a second's work."""
    streamed: tuple[str, ...] = ("/transfers/",)
    """Paths under which bodies may have any size and take any time."""


class LimitsMiddleware:
    """ASGI."""

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
    """How many requests are in progress, and whose. Only the event loop touches it."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.taken = 0
        self.unauthenticated = 0
        self.tenants: Counter[str] = Counter()

    def take(self, scope: Scope) -> RequestSlot:
        """`Overloaded`: there is none."""
        unauthenticated = not scope["path"].startswith("/v1/") or all(name != b"authorization" for name, _ in scope["headers"])
        if self.taken >= self.limits.in_progress or (unauthenticated and self.unauthenticated >= self.limits.unauthenticated):
            raise Overloaded("too many requests are in progress; nothing was done")
        self.taken += 1
        self.unauthenticated += unauthenticated
        return RequestSlot(self, unauthenticated=unauthenticated)


class RequestSlot:
    """One request's."""

    __slots__ = ("_places", "_tenant", "_unauthenticated")

    def __init__(self, places: _RequestSlots, *, unauthenticated: bool) -> None:
        self._places = places
        self._unauthenticated = unauthenticated
        self._tenant: str | None = None

    def give_to(self, tenant: str) -> None:
        """Now it is known whose it is. `Overloaded`: they have too many."""
        if self._places.tenants[tenant] >= self._places.limits.per_tenant:
            raise Overloaded("too many requests of this tenant are in progress; nothing was done")
        self._places.tenants[tenant] += 1
        self._tenant = tenant

    def leave(self) -> None:
        """The request is over, and so is its answer."""
        self._places.taken -= 1
        self._places.unauthenticated -= self._unauthenticated
        if self._tenant is not None:
            self._places.tenants[self._tenant] -= 1
            if not self._places.tenants[self._tenant]:
                del self._places.tenants[self._tenant]


def slot_of(scope: Scope) -> RequestSlot | None:
    """The request's; None outside the frame."""
    place: RequestSlot | None = scope.get(_PLACE)
    return place


class _ResponseTimeout:
    """The answer's way out, until the time is over; from then on ours."""

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
"""At work or waiting, of the 40 threads."""
PER_TENANT = 6


class ConcurrencyLimit:
    """Those of one kind. `what`: such as `templates are being checked`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._work = threading.BoundedSemaphore(WORKING)

    @property
    def count(self) -> int:
        """At work or waiting."""
        return self._taken.total()

    @contextmanager
    def slot(self, tenant: str) -> Iterator[None]:
        """Around the work; blocks until there is room for it. `Overloaded`: as many as may be wait for that."""
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
