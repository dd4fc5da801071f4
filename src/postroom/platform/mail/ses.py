"""The Amazon SES mailer: keeps the promise of `platform.mail.port` over the API v2, one attempt a message, never a retry.

    ses_url         how users name it              _ses_answers  what SES says, and what it means
    _ses_pool       the line and the connections   _ses_request  one message as a call
    _ses_connection one connection, one call       _sigv4        the signature (_ses_keys, _ses_credentials: with which keys)
    _ses_account    what the account allows        ses_probe     whether it would send: for `doctor`

The client is our own over httptools and asyncio: a call costs a fifth of what the AWS SDK's does (bench/ses.py), and nothing in
it can try a second time what may have been accepted. SES takes no idempotency key, so a lost answer leaves a message
`UNKNOWN`; the tags it carries let a later notice of SES settle it.

One event loop, no thread but for finding credentials, no task a message. What a killed process leaves behind is the sender's
journal's business (`Delivery.handing_over`); nothing is kept here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from postroom.clock import Clock, SystemClock
from postroom.errors import Conflict, PostroomError
from postroom.platform.mail._aws_auth import AwsCredentials
from postroom.platform.mail._ses_api import SesAccount, read_account
from postroom.platform.mail._ses_pool import SesPool
from postroom.platform.mail.breaker import Breaker, BreakerPolicy, BreakerState
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Health, OutboundMessage
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.ports.rates import RateLimit

_TICK_S = 0.25
_ACCOUNT_S = 180.0
_log = logging.getLogger(__name__)


class SesMailer:
    """A `Mailer` for one account and region. Everything happens on the event loop that `start` runs on."""

    def __init__(
        self,
        config: SesConfig,
        *,
        source: Callable[[], AwsCredentials],
        share: ConnectionBudget | None = None,
        on_limits: Callable[[RateLimit], None] | None = None,
        clock: Clock | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        """`source`: of keys (_ses_credentials.KeySource); blocks. `share`: what it has in common with other mailers of the
        account. `on_limits`: told every few minutes what the account allows; may block."""
        self._config = config
        self._source = source
        self._share = share or ConnectionBudget(config.connections)
        self._on_limits = on_limits
        self._clock = clock or SystemClock()
        self._breaker = Breaker(policy)
        self._pool: SesPool | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._following: asyncio.Task[None] | None = None

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
            open=self._breaker.state is BreakerState.CLOSED,
            reason=self._breaker.reason,
            retry_in_s=self._breaker.retry_in(self._clock.monotonic()),
            connections=pool.connections,
            in_flight=pool.in_flight,
        )

    async def start(self) -> None:
        """Raises `Conflict` when it was started before."""
        if self._pool is not None:
            raise Conflict("a mailer starts once")
        self._pool = SesPool(
            self._config,
            self._source,
            context=tls_context(self._config),
            share=self._share,
            clock=self._clock,
            breaker=self._breaker,
        )
        self._share.join(self._pool)
        self._tick(min(_TICK_S, self._config.idle_s / 4, self._config.answer_s / 4))
        if self._on_limits is not None:
            self._following = asyncio.create_task(self._follow(self._on_limits))

    async def read_limits(self) -> RateLimit:
        """What the account allows now. `Unavailable`, `Denied`."""
        return (await self._account()).limit

    async def close(self, grace_s: float) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._pool is not None:
            try:
                await self._pool.close(grace_s)
            finally:
                self._share.leave(self._pool)
        if self._ticker is not None:
            self._ticker.cancel()

    async def _account(self) -> SesAccount:
        return await asyncio.to_thread(read_account, self._config, self._source, self._clock)

    async def _follow(self, told: Callable[[RateLimit], None]) -> None:
        """The limits as they change. A look that fails changes nothing: the next one may not."""
        while True:
            await asyncio.sleep(_ACCOUNT_S)
            try:
                limit = await self.read_limits()
                await asyncio.to_thread(told, limit)
            except PostroomError as error:
                _log.warning("%s: what the account allows cannot be read: %s", self._config, error)

    def _tick(self, interval: float) -> None:
        """Deadlines are checked here, all of them, so that no message needs a timer of its own."""
        assert self._pool is not None
        self._ticker = asyncio.get_running_loop().call_later(interval, self._tick, interval)
        self._pool.tick()


def tls_context(config: SesConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or later, verified; None for an endpoint on this machine."""
    if not config.encrypted:
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
