"""The SMTP mailer: the `Mailer` port over a pipelining SMTP client of our own.

    smtp_url          a relay's URL                      _smtp_session     connect, greeting, EHLO, STARTTLS, AUTH
    connection_pool   the queue and the connections      _smtp_connection  one connection: one round trip per message
    breaker           when to try a relay again          _smtp_envelope    one message as MAIL, RCPT, DATA and content
    smtp_probe        would it take mail: for `doctor`   _smtp_replies     what the server answers

One event loop, no thread, no task per message. Nothing is kept here: after a kill, the sender's journal says what was handed over
(`OutboundMessage.handing_over`).
"""

from __future__ import annotations

import asyncio
import ssl

from postroom.clock import Clock
from postroom.platform.mail._pooled_mailer import PooledMailer
from postroom.platform.mail._smtp_connection import SmtpConnection
from postroom.platform.mail._smtp_session import open_session, tls_context
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.connection_pool import ConnectionBudget, ConnectionPool
from postroom.platform.mail.smtp_url import SmtpConfig


class SmtpMailer(PooledMailer):
    """A `Mailer` for one relay."""

    def __init__(
        self,
        config: SmtpConfig,
        *,
        budget: ConnectionBudget | None = None,
        clock: Clock | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        """`budget`: shared with other mailers to the same relay."""
        super().__init__(str(config), connections=config.connections, budget=budget, clock=clock, policy=policy)
        self._config = config

    def _connector(self) -> SmtpConnector:
        return SmtpConnector(self._config, tls_context(self._config))

    def _shortest_s(self) -> float:
        return min(self._config.idle_s, self._config.command_s, self._config.dot_s)


class SmtpConnector:
    """A `Connector` for one relay."""

    def __init__(self, config: SmtpConfig, context: ssl.SSLContext | None) -> None:
        self._config = config
        self._context = context

    def ready(self) -> bool:
        return True

    async def open(self, pool: ConnectionPool) -> SmtpConnection:
        connection = SmtpConnection(pool, self._config, asyncio.get_running_loop())
        try:
            connection.offers = await open_session(connection, self._config, self._context)
            connection.raise_if_broken()
        except BaseException:
            if connection.connected:
                connection.hang_up("the connection was given up")
                pool.gone(connection)  # after a failed TLS handshake the loop does not report its end
            raise
        return connection

    async def close(self) -> None:
        return
