"""The SMTP mailer: keeps the promise of `platform.mail.port` over our own pipelining client.

    url        how users name a relay            _replies   what the server says, and what it means
    _pool      the line and the connections      _envelope  one message ready for the wire
    _protocol  one connection, one round trip    _session   connect, greet, STARTTLS, log in (_auth)
               a message (_wire: its socket)     breaker    when to try an unreachable relay again
    share      connections between mailers

One event loop, no thread, no task a message. What a killed process leaves behind is the sender's journal's business
(`Delivery.handing_over`); nothing is kept here.
"""

from __future__ import annotations

import asyncio

from postroom.clock import Clock, SystemClock
from postroom.errors import Conflict
from postroom.platform.mail._smtp_session import tls_context
from postroom.platform.mail.breaker import Breaker, BreakerPolicy, BreakerState
from postroom.platform.mail.connection_pool import ConnectionBudget, Pool
from postroom.platform.mail.port import Health, OutboundMessage
from postroom.platform.mail.smtp_url import SmtpConfig

_TICK_S = 0.25


class SmtpMailer:
    """A `Mailer` for one relay. Everything happens on the event loop that `start` runs on."""

    def __init__(
        self,
        config: SmtpConfig,
        *,
        share: ConnectionBudget | None = None,
        clock: Clock | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        """`share`: what it has in common with other mailers to the same relay."""
        self._config = config
        self._share = share or ConnectionBudget(config.connections)
        self._clock = clock or SystemClock()
        self._breaker = Breaker(policy)
        self._pool: Pool | None = None
        self._ticker: asyncio.TimerHandle | None = None

    def submit(self, delivery: OutboundMessage) -> None:
        """Put it in line. Raises `Conflict` before `start`; after `close` it settles as unsent at once."""
        if self._pool is None:
            raise Conflict("the mailer is not started")
        self._pool.submit(delivery)

    @property
    def waiting(self) -> int:
        return len(self._pool.line) if self._pool else 0

    def recall(self) -> None:
        if self._pool:
            self._pool.recall("recalled from the line")

    def health(self) -> Health:
        pool = self._pool
        if pool is None:
            return Health(open=True, reason="", retry_in_s=0.0, connections=0, in_flight=0)
        return Health(
            open=self._breaker.state is BreakerState.CLOSED or pool.works,
            reason=pool.reason,
            retry_in_s=self._breaker.retry_in(self._clock.monotonic()),
            connections=pool.connections,
            in_flight=pool.in_flight,
        )

    async def start(self) -> None:
        """Raises `Invalid` for a CA file that cannot be read, `Conflict` when it was started before."""
        if self._pool is not None:
            raise Conflict("a mailer starts once")
        context = tls_context(self._config)
        self._pool = Pool(self._config, context, share=self._share, clock=self._clock, breaker=self._breaker)
        self._share.join(self._pool)
        config = self._config
        shortest = min(config.idle_s, config.command_s, config.dot_s)
        self._tick(min(_TICK_S, shortest / 4))

    def _tick(self, interval: float) -> None:
        """Deadlines are checked here, all of them, so that no message needs a timer of its own."""
        assert self._pool is not None
        self._ticker = asyncio.get_running_loop().call_later(interval, self._tick, interval)
        self._pool.tick()

    async def close(self, grace_s: float) -> None:
        if self._pool is not None:
            try:
                await self._pool.close(grace_s)
            finally:
                self._share.leave(self._pool)
        if self._ticker is not None:
            self._ticker.cancel()
