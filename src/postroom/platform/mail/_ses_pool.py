"""The line of deliveries to SES, and the connections that draw from it.

Connections are opened as the line needs them, at first one, then as many again as have brought answers, up to a limit, less what
other mailers of the process need (share). Where nothing works, or the account may not send, the breaker decides when one
delivery is tried again; the others wait in line. No call is ever made twice once its last byte was out.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable

from postroom.clock import Clock
from postroom.errors import Permanent, PostroomError
from postroom.platform.mail._aws_auth import AwsCredentials, CredentialRefresher, Signer
from postroom.platform.mail._ses_api import SEND, Calls, ProviderSignal, SesResponse
from postroom.platform.mail._ses_connection import Call, SesConnection
from postroom.platform.mail.breaker import Breaker, BreakerState
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import OutboundMessage, Result, Stage, Verdict
from postroom.platform.mail.ses_url import SesConfig

MAX_MOVES = 5
"""A message on which this many connections in a row broke, or that was refused so often, is given back."""


class SesPool:
    """All of one mailer's connections. Lives on one event loop."""

    def __init__(
        self,
        config: SesConfig,
        source: Callable[[], AwsCredentials],
        *,
        context: ssl.SSLContext | None,
        share: ConnectionBudget,
        clock: Clock,
        breaker: Breaker,
    ) -> None:
        self._config = config
        self._context = context
        self._share = share
        self._clock = clock
        self._breaker = breaker
        self._loop = asyncio.get_running_loop()
        self._keys = CredentialRefresher(config, source, clock, renewed=self._schedule, failed=self._no_keys)
        self._calls = Calls(config)
        self.line: deque[Call] = deque()
        self._open: set[SesConnection] = set()
        self._idle: list[SesConnection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closing = False
        self._changed = asyncio.Event()

    # For the mailer.

    def submit(self, delivery: OutboundMessage) -> None:
        """At the end of the line."""
        if self._closing:
            delivery.settled(_unsent("the mailer is closing"))
            return
        self.line.append(Call(delivery))
        if self._idle or len(self._open) + len(self._connecting) < self._config.connections:
            self._schedule()

    def recall(self, text: str) -> None:
        """Everything in line settles as unsent."""
        recalled, self.line = self.line, deque()
        for call in recalled:
            call.delivery.settled(_unsent(text))

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """Calls out and unanswered."""
        return sum(connection.handed_over for connection in self._open)

    @property
    def demands(self) -> bool:
        """See share.Member."""
        return bool(self.line) or len(self._open) > len(self._idle)

    @property
    def held(self) -> int:
        """See share.Member."""
        return len(self._open) + len(self._connecting)

    def tick(self) -> None:
        """A look at the clock: a few times a second."""
        now = self._loop.time()
        for connection in list(self._open):
            connection.look()
            if connection.deadline <= now:
                connection.expire()
        surplus = len(self._open) - self._share.ceiling(self)
        for connection in self._idle[: max(0, surplus)]:
            connection.end("given up for others")
        self._dispatch()

    async def close(self, grace_s: float) -> None:
        """As the port says."""
        self._closing = True
        self.recall("the mailer is closing")
        for task in self._connecting:
            task.cancel()
        for connection in list(self._idle):
            connection.end("the mailer is closing")
        try:
            async with asyncio.timeout(max(0.0, grace_s)):
                await self._nothing_open()
        except TimeoutError:
            pass
        finally:
            for connection in list(self._open):
                connection.end("the mailer was closed", at_once=True)
            await asyncio.gather(*self._connecting, return_exceptions=True)
            await self._keys.close()

    async def _nothing_open(self) -> None:
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    # For the connections.

    def answered(self, connection: SesConnection, call: Call, answer: SesResponse) -> None:
        """Settle the call, or put it back; give the connection the next one."""
        result = answer.result
        match answer.means:
            case ProviderSignal.WORKS:
                self._breaker.succeeded()
            case ProviderSignal.TROUBLE:
                self._trouble(result.text)
            case ProviderSignal.CLOSED:
                self._trouble(f"SES sends nothing now: {result.text}", stubborn=True)
            case ProviderSignal.STALE:
                self._keys.drop()
                self._trouble(f"the credentials for AWS have run out: {result.text}")
            case ProviderSignal.REFUSED:
                self._keys.drop()
                self._trouble(f"SES refuses us: {result.text}; check the credentials and the configuration set", stubborn=True)
        if result.verdict is Verdict.UNSENT:
            self._put_back(call, result.text)
        else:
            call.delivery.settled(result)
        self._free(connection)
        if self.line and self.held < self._config.connections:
            self._schedule()

    def broken(self, call: Call, reason: str) -> None:
        self._trouble(reason)
        self._put_back(call, reason)

    def doubtful(self, call: Call, result: Result) -> None:
        if not self._closing:
            self._trouble(result.text)
        call.delivery.settled(result)

    def withheld(self, connection: SesConnection, call: Call, error: Exception | None) -> None:
        """Not sent after all: the lease is gone, or the delivery has a bug."""
        if error is not None:
            self._report(error)
        call.delivery.settled(_unsent("handing over was refused" if error is None else f"{type(error).__name__} at hand-over"))
        if connection.usable:
            self._loop.call_soon(self._free, connection)

    def gone(self, connection: SesConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._changed.set()
        self._schedule()

    def _put_back(self, call: Call, reason: str) -> None:
        call.moves += 1
        if self._closing or call.moves >= MAX_MOVES:
            call.delivery.settled(_unsent(reason))
        else:
            self.line.appendleft(call)

    def _free(self, connection: SesConnection) -> None:
        """It carries the next call, or waits for one."""
        if not connection.usable or connection.busy or connection not in self._open:
            return
        if self._closing:
            connection.end("the mailer is closing")
        elif len(self._open) > self._share.ceiling(self):
            connection.end("given up for others")
        elif not (self.line and self._may_begin() and self._feed(connection)) and connection not in self._idle:
            self._idle.append(connection)

    # Beginning calls.

    def _feed(self, connection: SesConnection) -> bool:
        """Whether it carries a call now."""
        signer = self._keys.signer()
        while signer is not None and self.line and connection.usable:
            call = self.line.popleft()
            body = self._body(call)
            if isinstance(body, Result):
                call.delivery.settled(body)
            elif body is not None:
                connection.send(call, _head(signer, body, self._clock), body)
                if connection.busy:
                    return True
        return False

    def _body(self, call: Call) -> bytes | Result | None:
        """The call's content, or its end; None: it has settled itself."""
        try:
            content = call.delivery.compose()
        except Exception as error:  # noqa: BLE001 - a delivery's own bug; it costs this delivery only
            self._report(error)
            return _unsent(f"{type(error).__name__} while composing")
        return None if content is None else self._calls.body(call.delivery, content)

    def _may_begin(self) -> bool:
        """Whether the way is believed to work, or this would be the one call that tries it."""
        if self._breaker.state is BreakerState.CLOSED:
            return True
        return self._breaker.allows(self._clock.monotonic()) and not any(connection.busy for connection in self._open)

    def _schedule(self) -> None:
        if not self._scheduled and not self._closing:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Wake who is idle, and open what is missing."""
        self._scheduled = False
        if self._closing:
            return
        while self.line and self._idle and self._may_begin():
            connection = self._idle.pop()
            if connection.usable and not self._feed(connection):
                self._idle.append(connection)
                break
        for _ in range(self._missing()):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    def _missing(self) -> int:
        if not self.line or not self._may_begin() or self._keys.signer() is None:
            return 0
        connecting = len(self._connecting)
        if self._breaker.state is not BreakerState.CLOSED:
            return 0 if connecting or self._idle else 1
        most = min(self._config.connections, self._share.ceiling(self))
        room = min(most - len(self._open) - connecting, self._share.room(self))
        proven = sum(connection.proven for connection in self._open)
        unproven = len(self._open) - proven + connecting
        return max(0, min(room, len(self.line) - len(self._idle) - connecting, max(1, proven) - unproven))

    async def _connect(self) -> None:
        config = self._config
        connection = SesConnection(self, config, self._loop)
        try:
            async with asyncio.timeout(config.connect_s):
                await self._loop.create_connection(
                    lambda: connection,
                    config.host,
                    config.port,
                    ssl=self._context,
                    server_hostname=config.host if self._context else None,
                )
        except (OSError, TimeoutError, UnicodeError) as error:
            connection.end("the connection was given up", at_once=True)
            self._trouble(*unreachable(error, config))
        except BaseException:
            connection.end("the connection was given up", at_once=True)
            raise
        else:
            self._open.add(connection)
            self._free(connection)
            if not connection.usable:
                self._trouble(f"{config.host}:{config.port} hung up at once")
                connection.end("it hung up at once")
                self._open.discard(connection)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error)
            self._trouble(f"{type(error).__name__}: {error}")
        self._schedule()

    # What goes wrong.

    def _no_keys(self, error: PostroomError) -> None:
        self._trouble(str(error), isinstance(error, Permanent))

    def _trouble(self, reason: str, stubborn: bool = False) -> None:
        self._breaker.failed(self._clock.monotonic(), reason, chance=self._chance(), stubborn=stubborn)

    def _chance(self) -> float:
        return int.from_bytes(self._clock.random(4), "big") / 2**32

    def _report(self, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": "a delivery to SES failed in a way nobody foresaw", "exception": error})


def unreachable(error: Exception, config: SesConfig) -> tuple[str, bool]:
    """What went wrong on the way, in words, and whether only a person can mend it."""
    where = f"{config.host}:{config.port}"
    match error:
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate of {where} was not accepted: {error.verify_message}", True
        case ssl.SSLError():
            return f"no TLS with {where}: {error.reason or error}", False
        case socket.gaierror():
            return f"the name {config.host} was not found ({error.strerror}): check the region and this machine's DNS", False
        case TimeoutError():
            return f"{where} did not answer within {config.connect_s:g} s: check the firewall", False
        case UnicodeError():
            return f"{config.host} is no name that a host can have", True
    return f"{where} cannot be reached: {error}", False


def _head(signer: Signer, body: bytes, clock: Clock) -> bytes:
    fields = signer.headers("POST", SEND, body, clock.now())
    return f"POST {SEND} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()


def _unsent(text: str) -> Result:
    return Result(Verdict.UNSENT, text=text[:250], stage=Stage.CONNECT)
