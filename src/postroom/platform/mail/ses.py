"""The Amazon SES mailer: the `Mailer` port over `SendEmail` of the API v2, one attempt per message, never a retry.

    ses_url           an account's URL                       _ses_connection  one connection, one request at a time
    connection_pool   the queue and the connections          _ses_api         requests, responses, the account's limits
    breaker           when to try again                      _aws_auth        credentials and signatures
    ses_probe         would it send: for `doctor`

The client is our own, over httptools and asyncio: a request costs a fifth of what it costs with the AWS SDK (bench/ses.py), and
nothing in it can send again what may have been accepted. SendEmail takes no idempotency key, so a lost response leaves a message
`UNKNOWN`; the tags it carries let a later event of SES settle it.
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html

One event loop, no thread except for finding credentials and reading the account, no task per message. Nothing is kept here: after
a kill, the sender's journal says what was handed over (`OutboundMessage.handing_over`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from postroom.clock import Clock
from postroom.errors import PostroomError
from postroom.platform.mail._aws_auth import CredentialRefresher, CredentialSource, Signer
from postroom.platform.mail._pooled_mailer import ConnectHints, PooledMailer, connect_error, verified_tls
from postroom.platform.mail._ses_api import SendRequests, read_account
from postroom.platform.mail._ses_connection import SesConnection
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.connection_pool import ConnectionBudget, ConnectionPool
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.ports.rates import RateLimit
from postroom.telemetry.logs import event_logger

_ACCOUNT_S = 180.0
_HINTS = ConnectHints(name=": check the region and this machine's DNS")
_log = event_logger(__name__)


class SesMailer(PooledMailer):
    """A `Mailer` for one account and region."""

    def __init__(
        self,
        config: SesConfig,
        *,
        source: CredentialSource,
        budget: ConnectionBudget | None = None,
        on_limits: Callable[[RateLimit], None] | None = None,
        clock: Clock | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        """`budget`: shared with other mailers of the account. `on_limits`: called in a thread every three minutes with what the
        account allows."""
        super().__init__(str(config), connections=config.connections, budget=budget, clock=clock, policy=policy)
        self._config = config
        self._source = source
        self._on_limits = on_limits
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await super().start()
        if self._on_limits is not None:
            self._following = asyncio.create_task(self._follow(self._on_limits))

    async def read_limits(self) -> RateLimit:
        """What the account allows now. Raises `Unavailable` or `Denied`."""
        account = await asyncio.to_thread(lambda: read_account(self._config, self._source.load(), self._clock))
        return account.limit

    async def close(self, grace_s: float) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await super().close(grace_s)

    async def _follow(self, on_limits: Callable[[RateLimit], None]) -> None:
        """Report the limits as they change. A failure changes nothing: the next look may succeed."""
        while True:
            await asyncio.sleep(_ACCOUNT_S)
            try:
                limit = await self.read_limits()
                await asyncio.to_thread(on_limits, limit)
            except PostroomError as error:
                _log.warning("ses.limits_unreadable", provider=self._name, reason=str(error))

    def _connector(self) -> SesConnector:
        return SesConnector(
            self._config, self._source, self._clock, renewed=self._credentials_renewed, failed=self._no_credentials
        )

    def _shortest_s(self) -> float:
        return min(self._config.idle_s, self._config.answer_s)

    def _credentials_renewed(self) -> None:
        if self._pool is not None:
            self._pool.schedule()

    def _no_credentials(self, error: PostroomError, stubborn: bool) -> None:
        if self._pool is not None:
            self._pool.trouble(str(error), stubborn=stubborn)


class SesConnector:
    """A `Connector` for one account and region."""

    def __init__(
        self,
        config: SesConfig,
        source: CredentialSource,
        clock: Clock,
        *,
        renewed: Callable[[], None],
        failed: Callable[[PostroomError, bool], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._requests = SendRequests(config)
        self._context = verified_tls() if config.encrypted else None  # none: an endpoint on this machine
        self.credentials = CredentialRefresher(
            source,
            lambda credentials: Signer(credentials, host=config.authority, region=config.region),
            clock,
            renewed=renewed,
            failed=failed,
        )

    def ready(self) -> bool:
        return self.credentials.ready()

    async def open(self, pool: ConnectionPool) -> SesConnection:
        config = self._config
        connection = SesConnection(pool, config, requests=self._requests, credentials=self.credentials, clock=self._clock)
        name = config.host if self._context else None
        try:
            async with asyncio.timeout(config.connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, config.host, config.port, ssl=self._context, server_hostname=name
                )
        except BaseException as error:
            connection.hang_up("the connection was given up")
            if isinstance(error, (OSError, TimeoutError, UnicodeError)):
                raise connect_error(error, _HINTS, host=config.host, port=config.port, seconds=config.connect_s) from error
            raise
        return connection

    async def close(self) -> None:
        await self.credentials.close()
