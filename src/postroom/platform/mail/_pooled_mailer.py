"""What the SMTP and SES mailers share: the `Mailer` port over a connection pool, TLS, and the errors of failures to connect."""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from typing import NamedTuple

from postroom.clock import Clock, SystemClock
from postroom.errors import Conflict, Denied, Invalid, PostroomError, Unavailable
from postroom.platform.mail.breaker import Breaker, BreakerPolicy, BreakerState
from postroom.platform.mail.connection_pool import ConnectionBudget, ConnectionPool, Connector
from postroom.platform.mail.port import Health, OutboundMessage

_TICK_S = 0.25


class PooledMailer(ABC):
    """A `Mailer` over a pool. Everything happens on the event loop that `start` runs on."""

    def __init__(
        self, name: str, *, connections: int, budget: ConnectionBudget | None, clock: Clock | None, policy: BreakerPolicy | None
    ) -> None:
        """`budget`: shared with other mailers to the same provider; None: its own."""
        self._name = name
        self._connections = connections
        self._budget = budget or ConnectionBudget(connections)
        self._clock = clock or SystemClock()
        self._breaker = Breaker(policy)
        self._pool: ConnectionPool | None = None
        self._ticker: asyncio.TimerHandle | None = None

    @abstractmethod
    def _connector(self) -> Connector:
        """Called once, by `start`."""

    @abstractmethod
    def _shortest_s(self) -> float:
        """The shortest of its time limits."""

    def submit(self, message: OutboundMessage) -> None:
        """Append to the queue. Raises `Conflict` before `start`; after `close` the message settles as unsent at once."""
        if self._pool is None:
            raise Conflict("the mailer is not started")
        self._pool.submit(message)

    @property
    def waiting(self) -> int:
        return len(self._pool.queue) if self._pool else 0

    def recall(self) -> None:
        if self._pool:
            self._pool.recall("recalled from the queue")

    def health(self) -> Health:
        pool = self._pool
        if pool is None:
            return Health(open=True, reason="", retry_in_s=0.0, connections=0, in_flight=0)
        return Health(
            open=self._breaker.state is BreakerState.CLOSED,
            reason=pool.reason,
            retry_in_s=self._breaker.retry_in(self._clock.monotonic()),
            connections=pool.connections,
            in_flight=pool.in_flight,
        )

    async def start(self) -> None:
        """Raises `Conflict` if it was started before, `Invalid` if its configuration names a file that cannot be used."""
        if self._pool is not None:
            raise Conflict("a mailer starts once")
        self._pool = ConnectionPool(
            self._connector(),
            self._name,
            connections=self._connections,
            budget=self._budget,
            clock=self._clock,
            breaker=self._breaker,
        )
        self._budget.join(self._pool)
        self._tick(self._pool, min(_TICK_S, self._shortest_s() / 4))

    def _tick(self, pool: ConnectionPool, interval: float) -> None:
        self._ticker = asyncio.get_running_loop().call_later(interval, self._tick, pool, interval)
        pool.tick()

    async def close(self, grace_s: float) -> None:
        if self._pool is not None:
            try:
                await self._pool.close(grace_s)
            finally:
                self._budget.leave(self._pool)
        if self._ticker is not None:
            self._ticker.cancel()


class ConnectHints(NamedTuple):
    """What to do about failures to connect, appended to their descriptions."""

    certificate: str = ""
    tls: str = ""
    name: str = ""
    refused: str = ""


def connect_error(error: Exception, hints: ConnectHints, *, host: str, port: int, seconds: float) -> PostroomError:
    """Why no connection could be opened, in words. `Permanent` kinds need a person."""
    where = f"{host}:{port}"
    match error:
        case ssl.SSLCertVerificationError():
            return Denied(f"the TLS certificate of {where} was not accepted: {error.verify_message}{hints.certificate}")
        case ssl.SSLError():
            return Unavailable(f"no TLS with {where}: {error.reason or error}{hints.tls}")
        case socket.gaierror():
            return Unavailable(f"the name {host} was not found ({error.strerror}){hints.name}")
        case UnicodeError():
            return Invalid(f"{host} is not a valid host name ({error}): check the mail provider's URL")
        case TimeoutError():
            return Unavailable(f"{where} did not answer within {seconds:g} s: check the host, the port and the firewall")
        case ConnectionRefusedError():
            return Unavailable(f"{where} refused the connection{hints.refused}")
    return Unavailable(f"{where} cannot be reached: {error}")


def verified_tls(ca_file: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and name checked. `ca_file`: authorities to trust instead of the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
