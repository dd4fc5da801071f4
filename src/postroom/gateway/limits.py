"""How much may be in progress at once, how large a body may be, and how long a call may take.

A handler that passes its time is not stopped (its thread cannot be): the caller is answered 503, and what the handler does still
happens. Who repeats a POST with its `Idempotency-Key` finds out. The time ends with the answer's first byte: downloads and
exports may take longer; so do bodies of any size (`streamed`), whose handlers count for themselves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import Temporary
from postroom.gateway.bodies import limited
from postroom.gateway.problems import answer_now
from postroom.gateway.refusals import Overloaded

_ALIVE = frozenset({"/healthz", "/readyz"})
"""Answered also when there is no room for anything else."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one door process."""

    body: int = 1_000_000
    """Bytes, unless a route takes more (gateway.bodies)."""
    body_s: float = 20.0
    """For reading a body; where it may have any size, for its next part. Less than `handle_s`, which it is a part of."""
    handle_s: float = 30.0
    """From the request's head to the answer's. API Gateway gives 29 s."""
    in_progress: int = 2_000
    """Requests, those that wait for a change included."""
    handlers: int = 240
    """Handlers at work (40 at once, as many as there are threads) or waiting for a thread: at 5 ms each, a second's work."""
    streamed: tuple[str, ...] = ("/transfers/",)
    """Paths under which bodies may have any size and take any time."""


class Limited:
    """ASGI."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALIVE:
            await self._app(scope, receive, send)
            return
        if self._in_progress >= self._limits.in_progress:
            problem = answer_now(Request(scope), Overloaded("too many requests are in progress; nothing was done"))
            await problem(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._timed(scope, receive, send)
        finally:
            self._in_progress -= 1

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        streamed = scope["path"].startswith(limits.streamed)
        receive = limited(scope, receive, most=None if streamed else limits.body, seconds=limits.body_s)
        if streamed:
            await self._app(scope, receive, send)
            return
        timed = _Timed(scope, receive, send, limits.handle_s)
        try:
            await self._app(scope, receive, timed.send)
        finally:
            await timed.close()


class _Timed:
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
        problem = answer_now(Request(self._scope), Temporary("the handler is still at work"))
        self._answer = asyncio.get_running_loop().create_task(problem(self._scope, self._receive, self._send))
