"""The connections to one relay, divided between all mailers of a process that send through it.

A relay allows so many connections, however many campaigns there are. Each mailer that has something to send has an equal share,
and at least one, so that nobody waits behind a campaign of a million. Who has nothing to send has no share: its connections go
when another needs them. A mailer that comes begins with its one at once, above the total for as long as the others take to
give theirs up: a message or two.

The line of deliveries, and the connections that draw from it.

Connections are opened as the line needs them: one at first, then as many again as have proven to work, up to a limit. Where the
relay turns one away while others work, the limit is halved (not below what works) and grows again by one every ten seconds; no
delivery fails because of it. Where none works, the breaker decides when to try one again, and deliveries wait in line.
Other mailers of the process may send through the same relay: connections above this one's share are given up (share).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol

from postroom.clock import Clock
from postroom.errors import PostroomError
from postroom.platform.mail._smtp_connection import SmtpConnection
from postroom.platform.mail._smtp_envelope import Offers, QueuedMessage
from postroom.platform.mail._smtp_session import Phase, is_stubborn, open_session
from postroom.platform.mail.breaker import Breaker
from postroom.platform.mail.port import OutboundMessage, Result, Stage, Verdict
from postroom.platform.mail.smtp_url import SmtpConfig


class BudgetMember(Protocol):
    """A mailer's pool."""

    @property
    def demands(self) -> bool:
        """It has something to send, or on the way."""
        ...

    @property
    def held(self) -> int:
        """Its connections, those being opened and those saying goodbye included."""
        ...


class ConnectionBudget:
    """See the module's text. On one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._members: set[BudgetMember] = set()

    def join(self, member: BudgetMember) -> None:
        """From its start on."""
        self._members.add(member)

    def leave(self, member: BudgetMember) -> None:
        """Once it is closed."""
        self._members.discard(member)

    def ceiling(self, member: BudgetMember) -> int:
        """The most connections for this one now."""
        if len(self._members) <= 1:
            return self._total
        demanding = sum(other is not member and other.demands for other in self._members)
        return max(1, self._total // (demanding + 1))

    def room(self, member: BudgetMember) -> int:
        """How many more it may open now, the others' being as they are."""
        if len(self._members) <= 1:
            return self._total
        left = self._total - sum(other.held for other in self._members)
        return left if member.held else max(1, left)


MAX_MOVES = 5


"""A message on which this many connections in a row broke is given back: it may be what breaks them."""


REFUSED_PAUSE_S = 1.0


"""After the relay turned a connection away while others work."""


GROWTH_S = 10.0


"""For the limit to grow by one again."""


_log = logging.getLogger(__name__)


class Pool:
    """All of one mailer's connections. Lives on one event loop."""

    def __init__(
        self, config: SmtpConfig, context: ssl.SSLContext | None, *, share: ConnectionBudget, clock: Clock, breaker: Breaker
    ) -> None:
        self._config = config
        self._context = context
        self._share = share
        self._clock = clock
        self._breaker = breaker
        self._loop = asyncio.get_running_loop()
        self.line: deque[QueuedMessage] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._working: set[SmtpConnection] = set()
        self._idle: list[SmtpConnection] = []
        self._open: set[SmtpConnection] = set()
        self._limit = config.connections
        self._pause_until = 0.0
        self._grow_at = 0.0
        self._complaint = ""
        self._scheduled = False
        self._closing = False
        self._changed = asyncio.Event()

    # For the mailer.

    def submit(self, delivery: OutboundMessage) -> None:
        """At the end of the line."""
        parcel = QueuedMessage(delivery)
        if self._closing:
            _unsent(parcel, "the mailer is closing")
            return
        self.line.append(parcel)
        if self._idle or len(self._working) < self._limit:
            self._schedule()

    def recall(self, text: str) -> None:
        """Everything in line settles as unsent."""
        recalled, self.line = self.line, deque()
        while recalled:
            _unsent(recalled.popleft(), text)

    @property
    def connections(self) -> int:
        """Those that carry mail or could."""
        return len(self._working)

    @property
    def in_flight(self) -> int:
        """Final dots out and unanswered."""
        return sum(connection.awaits_verdict for connection in self._working)

    @property
    def demands(self) -> bool:
        """See share.Member."""
        return bool(self.line) or len(self._working) > len(self._idle)

    @property
    def held(self) -> int:
        """See share.Member."""
        return len(self._open.union(self._working)) + len(self._connecting)

    @property
    def works(self) -> bool:
        """At least one connection carries mail."""
        return any(connection.fruitful for connection in self._working)

    @property
    def reason(self) -> str:
        """What is wrong, in words; empty when nothing is."""
        if self._breaker.reason:
            return self._breaker.reason
        if self._limit < self._config.connections and self._complaint:
            return f"working with {self._limit} of {self._config.connections} connections: {self._complaint}"
        return ""

    def tick(self) -> None:
        """A look at the clock: a few times a second."""
        now = self._loop.time()
        for connection in [one for one in self._open if one.deadline <= now]:
            connection.expire()
        if self._limit < self._config.connections and now >= self._grow_at:
            self._limit += 1
            self._grow_at = now + GROWTH_S
        self._give_up()
        self._dispatch()

    async def close(self, grace_s: float) -> None:
        """As the port says."""
        self._closing = True
        self.recall("the mailer is closing")
        for task in self._connecting:
            task.cancel()
        for connection in list(self._idle):
            connection.quit()
        await self._until(lambda: not self._working, grace_s)
        for connection in list(self._working):
            connection.hang_up("the mailer was closed")
        await self._until(lambda: not self._open, min(1.0, grace_s))
        for connection in list(self._open):
            connection.hang_up("the mailer was closed")
        await self._until(lambda: not self._open and not self._connecting, 5.0)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # For connections.

    def draw(self, offers: Offers) -> QueuedMessage | None:
        """The next message that can be sent to a server with these offers; what cannot is settled on the way."""
        while self.line and not self._closing:
            parcel = self.line.popleft()
            if self._pack(parcel, offers):
                return parcel
        return None

    def draw_behind(self, offers: Offers) -> QueuedMessage | None:
        """The same, unless a free connection can take it without waiting for an answer first."""
        return self.draw(offers) if len(self.line) > len(self._idle) else None

    def _pack(self, parcel: QueuedMessage, offers: Offers) -> bool:
        try:
            content = parcel.delivery.compose()
        except BaseException:
            _unsent(parcel, "composing it failed")
            raise
        if content is None:
            return False
        refusal = parcel.pack(content, offers, self._config.dsn)
        if refusal is not None:
            parcel.delivery.settled(refusal)
        return refusal is None

    def take_back(self, parcel: QueuedMessage, reason: str, *, answer: Result | None) -> None:
        parcel.unpack()
        if parcel.moves >= MAX_MOVES:
            text = f"{parcel.moves} connections in a row broke on it before its final dot; the last: {reason}"[:250]
            parcel.delivery.settled(answer or Result(Verdict.UNSENT, text=text, stage=Stage.CONNECT))
        elif self._closing:
            _unsent(parcel, "the mailer is closing")
        else:
            self.line.appendleft(parcel)

    def opened(self, connection: SmtpConnection) -> None:
        self._open.add(connection)

    def proven(self) -> None:
        self._breaker.succeeded()
        self._schedule()

    def idle(self, connection: SmtpConnection) -> None:
        if self._closing:
            connection.quit()
        elif connection not in self._idle:
            self._idle.append(connection)

    def lost(self, connection: SmtpConnection, reason: str) -> None:
        self._working.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        elif reason and not connection.fruitful and not self._closing:
            self._failed(reason)
        self._changed.set()
        self._schedule()

    def gone(self, connection: SmtpConnection) -> None:
        self._open.discard(connection)
        self._changed.set()
        self._schedule()

    # Opening and giving up.

    def _give_up(self) -> None:
        """What is above the share, the idle first."""
        surplus = len(self._working) - self._share.ceiling(self)
        if surplus > 0:
            for connection in sorted(self._working, key=lambda one: one not in self._idle)[:surplus]:
                connection.retire()

    def _schedule(self) -> None:
        if not self._scheduled and not self._closing:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Wake who is free, and open what is missing."""
        self._scheduled = False
        while self.line and self._idle:
            self._idle.pop().wake()
        for _ in range(self._missing()):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    def _missing(self) -> int:
        connecting, working = len(self._connecting), len(self._working)
        if not self.line or working + connecting >= self._limit or self._closing or self._loop.time() < self._pause_until:
            return 0
        proven = self._proven
        leaving = sum(connection.phase is Phase.QUITTING for connection in self._open)
        room = min(self._limit, self._share.ceiling(self)) - working - leaving - connecting
        room = min(room, self._share.room(self))
        wanted = min(room, len(self.line) - connecting, max(1, proven) - (working - proven) - connecting)
        return wanted if wanted > 0 and self._breaker.allows(self._clock.monotonic()) else 0

    async def _connect(self) -> None:
        connection = SmtpConnection(self, self._config, self._loop)
        try:
            offers = await open_session(connection, self._config, self._context)
            connection.raise_if_broken()
        except PostroomError as error:
            self._drop(connection)
            self._failed(str(error), stubborn=is_stubborn(error))
        except BaseException:
            self._drop(connection)
            raise
        else:
            self._working.add(connection)
            self._loop.call_soon(connection.enlist, offers)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("connecting to %s failed in a way nobody foresaw", self._config, exc_info=error)
            self._failed(f"{type(error).__name__}: {error}")
        self._changed.set()

    def _drop(self, connection: SmtpConnection) -> None:
        """It never carried mail. Where the TLS handshake failed, the loop does not report the end of the connection."""
        if connection in self._open:
            self._open.discard(connection)
            connection.hang_up("the connection was given up")

    def _failed(self, reason: str, *, stubborn: bool = False) -> None:
        """A connection was no use. The next try is a tick away at the earliest."""
        now = self._loop.time()
        if proven := self._proven:
            self._complaint = reason
            self._limit = max(1, proven, self._limit // 2)
            self._pause_until, self._grow_at = now + REFUSED_PAUSE_S, now + GROWTH_S
        else:
            self._breaker.failed(self._clock.monotonic(), reason, chance=self._chance(), stubborn=stubborn)

    @property
    def _proven(self) -> int:
        return sum(connection.fruitful for connection in self._working)

    def _chance(self) -> float:
        return int.from_bytes(self._clock.random(4), "big") / 2**32


def _unsent(parcel: QueuedMessage, text: str) -> None:
    parcel.delivery.settled(Result(Verdict.UNSENT, text=text, stage=Stage.CONNECT))
