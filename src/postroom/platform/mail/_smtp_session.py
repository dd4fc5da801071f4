"""From a host and a port to a connection that takes mail: connect, greeting, EHLO, STARTTLS, AUTH.

Set-up is a coroutine that asks and awaits; once a connection carries mail, `_smtp_connection` drives it from `data_received`,
without futures. Each failure is described for the person who can fix it: `Unavailable` may pass by itself, the `Permanent` kinds
need a person. Login is SASL PLAIN (RFC 4616), LOGIN or XOAUTH2 inside SMTP AUTH (RFC 4954); neither its lines nor their answers'
questions are ever logged.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import abstractmethod
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import cast

from postroom.errors import Denied, Invalid, PostroomError, Unavailable, Unsupported
from postroom.platform.mail._pooled_mailer import ConnectHints, connect_error, verified_tls
from postroom.platform.mail._smtp_envelope import Offers, read_offers
from postroom.platform.mail._smtp_replies import Reply, ReplyReader
from postroom.platform.mail.provider_url import allowed_addresses
from postroom.platform.mail.smtp_url import Auth, SmtpConfig, Tls

_HINTS = ConnectHints(
    certificate="; name its authority with ca_file=, or verify=no",
    tls="; on a port that begins in the clear use tls=starttls",
    name=": check the host and this machine's DNS",
    refused=": is the mail server running, and is that its port?",
)


class Phase(Enum):
    """What a connection does now."""

    SETUP = "being set up"
    BUSY = "busy"
    IDLE = "idle"
    QUITTING = "quitting"
    DEAD = "dead"


class SetupConnection(asyncio.Protocol):
    """A connection while it is being set up: sends a line, awaits its reply. `SmtpConnection` adds how it carries mail."""

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
        self.connected = False
        """It had a socket at some time."""
        self.deadline = float("inf")
        """On the loop's clock: when the step under way is too late."""

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def transport(self) -> asyncio.Transport:
        """The connected transport."""
        return self._transport

    def raise_if_broken(self) -> None:
        """Raises `Unavailable` if the connection has ended."""
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
        """Close at once, and settle or give back what is on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self.connected = True

    def _die(self, reason: str) -> None:
        """Nothing is sent or received any more."""
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


def choose_mechanism(config: SmtpConfig, offered: frozenset[str]) -> Auth:
    """The mechanism to use among those `offered` (upper case). Raises `Unsupported` if there is none in common."""
    wanted = (Auth.PLAIN, Auth.LOGIN) if config.auth is Auth.AUTO else (config.auth,)
    for mechanism in wanted:
        if mechanism.upper() in offered:
            return mechanism
    raise Unsupported(
        f"{config.host} does not offer {' or '.join(name.upper() for name in wanted)} to log in with, "
        f"only {', '.join(sorted(offered)) or 'nothing'}: set auth= or tls= in the mail provider's URL"
    )


def auth_lines(mechanism: Auth, *, user: str, password: str) -> Iterator[bytes]:
    """The lines to send, without their line ends, the AUTH command first."""
    match mechanism:
        case Auth.LOGIN:
            yield b"AUTH LOGIN"
            yield b64encode(user.encode())
            yield b64encode(password.encode())
        case Auth.XOAUTH2:
            yield b"AUTH XOAUTH2 " + b64encode(f"user={user}\x01auth=Bearer {password}\x01\x01".encode())
            yield b""  # the 334 that refuses a token carries details and wants an empty line before it says 535
        case _:
            yield b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode())


def tls_context(config: SmtpConfig) -> ssl.SSLContext | None:
    """None if no TLS is wanted. Raises `Invalid` if the CA file cannot be used."""
    if config.tls is Tls.NONE:
        return None
    try:
        context = verified_tls(config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"ca_file={config.ca_file} is no file of PEM certificates that can be read: {error}") from error
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def open_session(connection: SetupConnection, config: SmtpConfig, context: ssl.SSLContext | None) -> Offers:
    """Connect and make ready to take mail. Returns what the server offers; raises `Unavailable`, or a `Permanent` kind."""
    loop = asyncio.get_running_loop()
    immediate = context if config.tls is Tls.TLS else None
    name = config.host if immediate else None
    try:
        async with asyncio.timeout(config.connect_s):
            host = await _address_to_connect(loop, config)
            await loop.create_connection(lambda: connection, host, config.port, ssl=immediate, server_hostname=name)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise _unreachable(error, config) from error
    reply = await connection.ask(None, config.greeting_s, what="greeting")
    if not reply.positive:
        raise _turned_away(reply, config, "does not take connections")
    offers = await _hello(connection, config)
    if config.tls in (Tls.STARTTLS, Tls.AUTO) and context is not None:
        offers, secure = await _start_tls(connection, offers, config=config, context=context)
    else:
        secure = immediate is not None
    if config.user is not None and config.password is not None:
        if not (secure or config.clear_auth or config.is_local):
            raise Denied(f"{config.host} offers no TLS, and the password is not sent in the clear: use tls=tls or clear_auth=yes")
        await _log_in(connection, offers, config=config, user=config.user, password=config.password)
    return offers


async def _address_to_connect(loop: asyncio.AbstractEventLoop, config: SmtpConfig) -> str:
    """The host to connect to. If only public ones are allowed, one of the very addresses that were checked."""
    if not config.public_only:
        return config.host
    return allowed_addresses(config, await loop.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM))[0]


async def _hello(connection: SetupConnection, config: SmtpConfig) -> Offers:
    name = (config.helo or _own_name(connection)).encode()
    reply = await connection.ask(b"EHLO " + name, config.command_s, what="answer to EHLO")
    if reply.positive:
        return read_offers(reply)
    if reply.code >= 500:  # a server from before 1995, or a proxy that hides the extensions
        reply = await connection.ask(b"HELO " + name, config.command_s, what="answer to HELO")
    if not reply.positive:
        raise _turned_away(reply, config, f"does not like our name {name.decode()}")
    return Offers()


def _own_name(connection: SetupConnection) -> str:
    """RFC 5321 §4.1.3: this machine's full name, or its address in brackets. No look-up in the DNS, which may take long."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = str(connection.transport.get_extra_info("sockname")[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


async def _start_tls(
    connection: SetupConnection, offers: Offers, *, config: SmtpConfig, context: ssl.SSLContext
) -> tuple[Offers, bool]:
    """Switch to TLS if that is offered or demanded. Returns the offers to go on with, and whether the connection is protected."""
    if not offers.starttls:
        if config.tls is Tls.AUTO:
            return offers, False
        raise Unsupported(f"{config.host}:{config.port} does not offer STARTTLS: use tls=tls if it is a TLS port, or tls=none")
    reply = await connection.ask(b"STARTTLS", config.command_s, what="answer to STARTTLS")
    if not reply.positive:
        if config.tls is Tls.AUTO and reply.code != 421:
            return offers, False
        raise _turned_away(reply, config, "refuses STARTTLS")
    if connection.spoke_too_soon:
        raise Denied(f"{config.host} sent plain text after its answer to STARTTLS: possible tampering with the connection")
    try:
        async with asyncio.timeout(config.connect_s):
            transport = await asyncio.get_running_loop().start_tls(
                connection.transport, connection, context, server_hostname=config.host
            )
    except (OSError, TimeoutError, UnicodeError) as error:
        raise _unreachable(error, config) from error
    if transport is None:
        raise Unavailable(f"{config.host} closed the connection during the TLS handshake")
    connection.protected(transport)
    return await _hello(connection, config), True


async def _log_in(connection: SetupConnection, offers: Offers, *, config: SmtpConfig, user: str, password: str) -> None:
    mechanism = choose_mechanism(config, offers.auth)
    reply = Reply(334, ())
    for line in auth_lines(mechanism, user=user, password=password):
        if reply.code != 334:
            break
        reply = await connection.ask(line, config.command_s, what="answer to the login")
    if reply.code == 235 or reply.positive:
        return
    if reply.code < 500 and reply.code != 334:
        raise Unavailable(f"{config.host} cannot check logins now: {reply}")
    raise Denied(
        f"{config.host} refused the login of {user!r} by {mechanism.upper()}: check the user and the password in the mail "
        f"provider's URL ({reply})"
    )


def _turned_away(reply: Reply, config: SmtpConfig, what: str) -> PostroomError:
    kind: type[PostroomError] = Denied if reply.code >= 500 else Unavailable
    return kind(f"{config.host}:{config.port} {what}: {reply}")


def _unreachable(error: Exception, config: SmtpConfig) -> PostroomError:
    return connect_error(error, _HINTS, host=config.host, port=config.port, seconds=config.connect_s)
