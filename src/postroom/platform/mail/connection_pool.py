"""The connection pool behind both mailers: a queue of messages, and the connections that take from it.

Connections are opened as the queue needs them: one at first, then as many again as have proven to work, up to a limit. If the
provider turns a connection away while others work, the limit is halved (not below what works) and grows again by one every ten
seconds; no message fails because of it. If none works, or the provider takes no mail now, the circuit breaker decides when one
connection may try again, and messages wait in the queue. Several mailers of a process may send through the same provider:
connections above a mailer's share of the budget are given up.

The pool knows nothing of SMTP or HTTP. A connection takes messages itself (`draw`) whenever it can carry one, and settles each
message it has begun or gives it back (`take_back`). All of it lives on one event loop: no locks, no thread, no task per message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from postroom.clock import Clock
from postroom.errors import Permanent, PostroomError
from postroom.platform.mail.breaker import Breaker, BreakerState
from postroom.platform.mail.port import OutboundMessage, Result, Stage, Verdict
from postroom.telemetry.logs import event_logger

MAX_MOVES = 5
"""A message that was given back this often is settled as unsent: it may be what breaks the connections."""
REFUSED_PAUSE_S = 1.0
"""After the provider turned a connection away while others work."""
GROWTH_S = 10.0
"""Until the limit grows by one again."""
_CLOSED = BreakerState.CLOSED  # looked up once: an enum's member costs more than the comparison
_log = event_logger(__name__)


class QueuedMessage:
    """A message in the queue, or with one connection."""

    __slots__ = ("head", "message", "moves", "payload")

    def __init__(self, message: OutboundMessage) -> None:
        self.message = message
        self.head = b""
        """SMTP: MAIL, RCPT and DATA, each line ended. HTTP: the request up to its body."""
        self.payload = b""
        """SMTP: the content, dot-stuffed, without the final dot. HTTP: the body."""
        self.moves = 0
        """How often it was begun and given back."""


class PooledConnection(Protocol):
    """A connection, as the pool sees it."""

    proven: bool
    """A message was answered on it."""

    @property
    def busy(self) -> bool:
        """A message is on it."""
        ...

    @property
    def in_flight(self) -> bool:
        """A message was handed over and is not answered yet."""
        ...

    @property
    def leaving(self) -> bool:
        """It carries no more messages, but its socket is still open."""
        ...

    def enlist(self) -> None:
        """Set-up is done, and the pool counts it: begin to carry messages."""
        ...

    def prepare(self, item: QueuedMessage, content: bytes) -> Result | None:
        """Set the item's `head` and `payload`. Returns the result that settles it if it cannot be sent at all."""
        ...

    def wake(self) -> None:
        """There may be a message to draw."""
        ...

    def tick(self, now: float) -> None:
        """Check deadlines. `now`: the loop's clock."""
        ...

    def retire(self) -> None:
        """Close after the message that is on it, if any."""
        ...

    def quit(self) -> None:
        """Close in an orderly way. Only called while it is idle."""
        ...

    def hang_up(self, reason: str) -> None:
        """Close at once. What is on it is settled, or given back."""
        ...


class Connector(Protocol):
    """Opens connections to one provider."""

    def ready(self) -> bool:
        """False while no message can be begun on any connection (credentials are missing)."""
        ...

    async def open(self, pool: ConnectionPool) -> PooledConnection:
        """A connection that is ready for messages. Raises a `Permanent` error if only a person can help, else `Unavailable`."""
        ...

    async def close(self) -> None:
        """Release what connections share."""
        ...


class ConnectionBudget:
    """The connections to one provider, divided between the mailers of a process. On one event loop.

    A provider allows so many connections, however many campaigns there are. Each mailer that has something to send gets an equal
    share, and at least one, so that nothing waits behind a campaign of a million. A mailer that has nothing to send has no share:
    its connections go when another needs them. A mailer that starts may open one connection at once, above the total until the
    others have given theirs up: a message or two.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._members: set[ConnectionPool] = set()

    def join(self, member: ConnectionPool) -> None:
        self._members.add(member)

    def leave(self, member: ConnectionPool) -> None:
        self._members.discard(member)

    def ceiling(self, member: ConnectionPool) -> int:
        """The most connections that this one may have now."""
        if len(self._members) <= 1:
            return self._total
        demanding = sum(other is not member and other.demands for other in self._members)
        return max(1, self._total // (demanding + 1))

    def room(self, member: ConnectionPool) -> int:
        """How many more connections this one may open now."""
        if len(self._members) <= 1:
            return self._total
        left = self._total - sum(other.held for other in self._members)
        return left if member.held else max(1, left)


class ConnectionPool:
    """All connections of one mailer."""

    def __init__(
        self, connector: Connector, name: str, *, connections: int, budget: ConnectionBudget, clock: Clock, breaker: Breaker
    ) -> None:
        """`name`: of the provider, for logs. `connections`: at most so many."""
        self._connector = connector
        self._ready = connector.ready
        self._name = name
        self._most = self._limit = connections
        self._budget = budget
        self._clock = clock
        self._breaker = breaker
        self._loop = asyncio.get_running_loop()
        self.queue: deque[QueuedMessage] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._open: set[PooledConnection] = set()
        """Every connection with a socket, those in set-up and those leaving included."""
        self._working: set[PooledConnection] = set()
        self._idle: list[PooledConnection] = []
        """Those of `_working` that have nothing to do."""
        self._pause_until = 0.0
        self._grow_at = 0.0
        self._complaint = ""
        self._scheduled = False
        self._closing = False
        self._changed = asyncio.Event()

    # For the mailer.

    def submit(self, message: OutboundMessage) -> None:
        """Append to the queue."""
        item = QueuedMessage(message)
        if self._closing:
            _unsent(item, "the mailer is closing")
            return
        self.queue.append(item)
        if self._idle or len(self._working) < self._limit:
            self.schedule()

    def recall(self, text: str) -> None:
        """Settle everything in the queue as unsent."""
        recalled, self.queue = self.queue, deque()
        while recalled:
            _unsent(recalled.popleft(), text)

    def schedule(self) -> None:
        """Look at the queue soon."""
        if not self._scheduled and not self._closing:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    @property
    def connections(self) -> int:
        """Those that carry messages or could."""
        return len(self._working)

    @property
    def in_flight(self) -> int:
        """Messages handed over and not answered yet."""
        return sum(connection.in_flight for connection in self._working)

    @property
    def reason(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        if self._breaker.reason:
            return self._breaker.reason
        if self._limit < self._most and self._complaint:
            return f"working with {self._limit} of {self._most} connections: {self._complaint}"
        return ""

    def tick(self) -> None:
        """Check all deadlines; called a few times a second, so that no message needs a timer."""
        now = self._loop.time()
        for connection in list(self._open):
            connection.tick(now)
        if self._limit < self._most and now >= self._grow_at:
            self._limit += 1
            self._grow_at = now + GROWTH_S
        surplus = len(self._working) - self._budget.ceiling(self)
        if surplus > 0:
            for connection in sorted(self._working, key=lambda one: one not in self._idle)[:surplus]:
                connection.retire()
        self._dispatch()

    async def close(self, grace_s: float) -> None:
        """See `Mailer.close`."""
        self._closing = True
        self.recall("the mailer is closing")
        for task in self._connecting:
            task.cancel()
        for connection in list(self._idle):
            connection.quit()
        try:
            await self._until(lambda: not self._working, grace_s)
        finally:
            for connection in list(self._working):
                connection.hang_up("the mailer was closed")
        await self._until(lambda: not self._open, min(1.0, grace_s))
        for connection in list(self._open):
            connection.hang_up("the mailer was closed")
        await self._until(lambda: not self._open and not self._connecting, 5.0)
        await self._connector.close()

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # For the budget.

    @property
    def demands(self) -> bool:
        """Something is in the queue or on a connection."""
        return bool(self.queue) or len(self._working) > len(self._idle)

    @property
    def held(self) -> int:
        """Its connections, those being opened and those leaving included."""
        return len(self._working) + self._leaving + len(self._connecting)

    # For connections.

    def draw(self, connection: PooledConnection) -> QueuedMessage | None:
        """The next message, prepared for this connection; messages that cannot be sent are settled on the way. None if there is
        none, or none may be begun now."""
        while (
            self.queue and (self._breaker.state is _CLOSED or self._may_probe(connection)) and self._ready() and not self._closing
        ):
            item = self.queue.popleft()
            try:
                content = item.message.compose()
            except BaseException as error:
                _unsent(item, f"{type(error).__name__} while composing")
                if not isinstance(error, Exception):
                    raise
                self.report(error)  # a bug of one message costs that message only
                continue
            if content is None:
                continue
            refusal = connection.prepare(item, content)
            if refusal is None:
                return item
            item.message.settled(refusal)
        return None

    def draw_behind(self, connection: PooledConnection) -> QueuedMessage | None:
        """As `draw`, but None if an idle connection can take the message without waiting for an answer first."""
        return self.draw(connection) if len(self.queue) > len(self._idle) else None

    def take_back(self, item: QueuedMessage, reason: str, *, answer: Result | None = None) -> None:
        """A message that was not handed over is first in the queue again, or settled as unsent after `MAX_MOVES`.

        `answer`: what to settle it with in that case instead (a 421 that was given to it).
        """
        item.head = item.payload = b""
        if item.moves >= MAX_MOVES:
            text = f"{item.moves} connections in a row broke on it or refused it before it was handed over; the last: {reason}"
            item.message.settled(answer or Result(Verdict.UNSENT, text=text[:250], stage=Stage.CONNECT))
        elif self._closing:
            _unsent(item, "the mailer is closing")
        else:
            self.queue.appendleft(item)

    def opened(self, connection: PooledConnection) -> None:
        """Its socket is open."""
        self._open.add(connection)

    def succeeded(self) -> None:
        """A message was answered: the provider works."""
        self._breaker.succeeded()
        if self.queue and (self._idle or len(self._working) < self._limit):
            self.schedule()

    def trouble(self, reason: str, *, stubborn: bool = False) -> None:
        """The provider takes no mail, whatever the connection: after a few of these the breaker opens.

        `stubborn`: only a person can help, so it opens at once.
        """
        if not self._closing:
            chance = int.from_bytes(self._clock.random(4), "big") / 2**32
            self._breaker.failed(self._clock.monotonic(), reason, chance=chance, stubborn=stubborn)

    def idle(self, connection: PooledConnection) -> None:
        """It has nothing to do."""
        if self._closing:
            connection.quit()
        elif connection not in self._idle:
            self._idle.append(connection)

    def lost(self, connection: PooledConnection, reason: str) -> None:
        """It carries no more messages. `reason`: why, if that counts as a failure to connect; else empty."""
        self._working.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        elif reason and not connection.proven and not self._closing:
            self._turned_away(reason)
        self._changed.set()
        self.schedule()

    def gone(self, connection: PooledConnection) -> None:
        """Its socket is closed."""
        self._open.discard(connection)
        self._changed.set()
        self.schedule()

    def report(self, error: BaseException) -> None:
        """A bug: the loop's exception handler gets it."""
        self._loop.call_exception_handler({"message": f"a message to {self._name} raised an error", "exception": error})

    # Beginning messages, and opening connections.

    def _may_begin(self) -> bool:
        """Whether a message may be begun on some connection."""
        return (self._breaker.state is _CLOSED or self._may_probe(None)) and self._ready()

    def _may_probe(self, connection: PooledConnection | None) -> bool:
        """Whether `connection` (None: any) may try a provider that does not work: if its wait is over, and only one at a time."""
        return self._breaker.allows(self._clock.monotonic()) and not any(
            other.busy for other in self._working if other is not connection
        )

    def _dispatch(self) -> None:
        """Wake what is idle, and open what is missing."""
        self._scheduled = False
        while self.queue and self._idle and self._may_begin():
            self._idle.pop().wake()
        for _ in range(self._missing()):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    def _missing(self) -> int:
        """How many connections to open now."""
        connecting, working = len(self._connecting), len(self._working)
        if not self.queue or working + connecting >= self._limit or self._closing or self._loop.time() < self._pause_until:
            return 0
        proven = self._proven
        at_once = max(1, proven) if self._breaker.state is _CLOSED else 1
        room = min(self._limit, self._budget.ceiling(self)) - working - self._leaving - connecting
        room = min(room, self._budget.room(self))
        wanted = min(room, len(self.queue) - connecting, at_once - (working - proven) - connecting)
        return wanted if wanted > 0 and self._may_begin() else 0

    async def _connect(self) -> None:
        try:
            connection = await self._connector.open(self)
        except PostroomError as error:
            self._turned_away(str(error), stubborn=isinstance(error, Permanent))
        else:
            self._working.add(connection)
            self._loop.call_soon(connection.enlist)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("mailer.connecting_failed", provider=self._name, exc_info=error)
            self._turned_away(f"{type(error).__name__}: {error}")
        self._changed.set()

    def _turned_away(self, reason: str, *, stubborn: bool = False) -> None:
        """A connection was no use. The next try is a tick away at the earliest."""
        if proven := self._proven:
            now = self._loop.time()
            self._complaint = reason
            self._limit = max(1, proven, self._limit // 2)
            self._pause_until, self._grow_at = now + REFUSED_PAUSE_S, now + GROWTH_S
        else:
            self.trouble(reason, stubborn=stubborn)

    @property
    def _proven(self) -> int:
        return sum(connection.proven for connection in self._working)

    @property
    def _leaving(self) -> int:
        return sum(connection.leaving for connection in self._open)


def _unsent(item: QueuedMessage, text: str) -> None:
    item.message.settled(Result(Verdict.UNSENT, text=text, stage=Stage.CONNECT))
