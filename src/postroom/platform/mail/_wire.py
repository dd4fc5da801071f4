"""The wire under a connection: its socket, its phases, its replies, and the questions asked while it is being set up.

Set-up is a coroutine that asks and awaits. Once it carries mail, `_protocol` drives it from `data_received`, without futures.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from enum import Enum
from typing import cast

from postroom.errors import Unavailable
from postroom.platform.mail._replies import Reply, ReplyReader
from postroom.platform.mail.url import SmtpConfig


class Phase(Enum):
    """What a connection is for now."""

    SETUP = "being set up"
    BUSY = "busy"
    IDLE = "idle"
    QUITTING = "quitting"
    DEAD = "dead"


class Wire(asyncio.Protocol):
    """`deadline`, on the loop's clock, is when something is due; its heir says what, and looks at it."""

    def __init__(self, config: SmtpConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._time = loop.time
        self._transport: asyncio.Transport
        self._reader = ReplyReader()
        self._phase = Phase.SETUP
        self._early: deque[Reply] = deque()
        self._waiter: asyncio.Future[Reply] | None = None
        self._broken = ""
        self.deadline = float("inf")

    @property
    def phase(self) -> Phase:
        """What it is for now."""
        return self._phase

    @property
    def transport(self) -> asyncio.Transport:
        """The connected transport."""
        return self._transport

    def raise_if_broken(self) -> None:
        """Raises `Unavailable` where the connection ended meanwhile."""
        if self._phase is Phase.DEAD:
            raise Unavailable(self._broken)

    async def ask(self, line: bytes | None, timeout_s: float, *, what: str) -> Reply:
        """Send `line` (None: nothing) and await a reply. Raises `Unavailable` when none comes in time or the connection ends; it
        names `what` was awaited and never the line, which may be a password."""
        if line is not None:
            self._transport.write(line + b"\r\n")
        if self._early:
            return self._early.popleft()
        self.raise_if_broken()
        self._waiter = self._loop.create_future()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiter
        except TimeoutError as error:
            raise Unavailable(f"{self._config.host} sent no {what} within {timeout_s:g} s") from error
        finally:
            self._waiter = None

    @property
    def spoke_too_soon(self) -> bool:
        """Something came that was not asked for: after STARTTLS, an injection into the protected stream."""
        return bool(self._early) or not self._reader.idle

    def protected(self, transport: asyncio.Transport) -> None:
        """TLS now runs on this transport: what was known before does not count (RFC 3207 §4.2)."""
        self._transport = transport
        self._reader = ReplyReader()

    @abstractmethod
    def hang_up(self, reason: str) -> None:
        """Close at once, and bring what is on it to its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def _die(self, reason: str) -> None:
        """Nothing is sent or heard any more."""
        self._phase, self.deadline, self._broken = Phase.DEAD, float("inf"), reason
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Unavailable(reason))
        self._transport.abort()

    def _answer_setup(self, reply: Reply) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)
        else:
            self._early.append(reply)

    def _next_reply(self) -> Reply | None:
        try:
            return self._reader.next()
        except Unavailable as error:
            self.hang_up(str(error))
            return None
