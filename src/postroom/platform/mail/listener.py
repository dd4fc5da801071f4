"""The SMTP receiver for feedback: bounces, complaints, unsubscribe requests. It stores no mail and relays none.

250 is answered only once the handler has stored what the mail says; if it cannot, 451, and the sender brings the mail again.
Mails that arrive together are processed together, in one thread: a write to disk costs the same for one as for many, and mail
that is hard to parse delays other mail, never the process.

What unknown clients can use is limited: connections in all and per address (IPv6: per /64), how long a connection may be silent
(half a command is silence) or bring nothing, how long one mail may take. The rest is limited by the session (listener_session).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, Protocol, cast

from postroom.errors import PostroomError
from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.platform.mail.listener_session import ListenerConfig, NextStep, SmtpServerSession
from postroom.telemetry.logs import event_logger

MAX_BYTES: Final = 10 * 1024 * 1024
_TOGETHER: Final = 20
_LAST_MAILS_S: Final = 5.0
"""For mails that are complete when the process must stop."""
_LOOK_S: Final = 1.0
_BACKLOG: Final = 512
_HANDSHAKE_S: Final = 30.0
_log = event_logger(__name__)


class InboundMailHandler(Protocol):
    """Processes received mail (events.inbound_mail)."""

    def accepts(self, address: str) -> bool:
        """Whether mail to this address is accepted. Must be quick: it is called on the event loop."""
        ...

    def process(self, mails: Sequence[InboundMail]) -> list[MailVerdict]:
        """Process mails and store what they say. After an error none counts as processed."""
        ...


class ListenerLimits(NamedTuple):
    """What clients may use."""

    connections: int = 250
    per_address: int = 50
    """Postfix, which opens the most, opens 20 to one destination."""
    silence_s: float = 300.0
    """RFC 5321 §4.5.3.2.7: at least five minutes."""
    mail_s: float = 600.0
    """From DATA to the final dot."""
    idle_s: float = 900.0
    """From the greeting, or from one mail, to the DATA of the next, whatever is sent in between."""


class Listener:
    """One SMTP server, on the running loop."""

    def __init__(
        self,
        handler: InboundMailHandler,
        config: ListenerConfig,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ListenerLimits | None = None,
    ) -> None:
        """`tls`: offer STARTTLS with this certificate."""
        self.config = replace(config, offers_tls=tls is not None)
        self.handler = handler
        self.tls = tls
        self.limits = limits or ListenerLimits()
        self.batcher = _MailBatcher(handler)
        self.closing = False
        self.connections: set[_Connection] = set()
        self._from: Counter[str] = Counter()

    async def serve(self, sock: socket.socket, stop: asyncio.Event) -> None:
        """Accept mail on a listening socket until `stop`; mails that are complete by then are answered first."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self, loop), sock=sock, backlog=_BACKLOG)
        batching = asyncio.create_task(self.batcher.work())
        try:
            while not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_S)
                self._end_the_slow(loop.time())
        finally:
            server.close()
            await self._close(loop)
            batching.cancel()
            self.batcher.close()

    def refusal(self, peer: str) -> str:
        """Why a connection from this client is refused; empty if it is accepted and counted, until `left`."""
        if self.closing:
            return "4.3.2 Closing: come again in a moment"
        if len(self.connections) >= self.limits.connections or self._from[peer] >= self.limits.per_address:
            return "4.7.0 Too many connections: come again later"
        self._from[peer] += 1
        return ""

    def left(self, connection: _Connection, peer: str) -> None:
        """The connection has ended."""
        self.connections.discard(connection)
        self._from[peer] -= 1
        if self._from[peer] <= 0:
            del self._from[peer]

    def _end_the_slow(self, now: float) -> None:
        for connection in tuple(self.connections):
            if now >= connection.deadline:
                connection.too_slow(now)

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closing = True
        until = loop.time() + _LAST_MAILS_S
        for connection in tuple(self.connections):
            connection.close_when_answered()
        while self.connections and loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in tuple(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """One client: passes bytes between the network and its session."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._peer = ""
        self._transport: asyncio.Transport
        self._session = SmtpServerSession(listener.config, listener.handler.accepts)
        self._busy: asyncio.Task[None] | None = None
        self._hanging_up = False
        self._idle_until = 0.0
        self.deadline = 0.0
        """When it has been silent, or has taken for one mail, too long."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = _client_network(transport.get_extra_info("peername"))
        if refusal := self._listener.refusal(peer):
            self._transport.write(f"421 {refusal}\r\n".encode())
            self._transport.close()
            self._hanging_up = True
            return
        self._peer = peer
        self._listener.connections.add(self)
        self._idle_until = self._loop.time() + self._listener.limits.idle_s
        self._wait_for_a_command()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._hanging_up = True
        if self._peer:
            self._listener.left(self, self._peer)
            self._peer = ""

    def data_received(self, data: bytes) -> None:
        if not self._hanging_up:
            self._session.receive(data)
            self._go_on()

    def pause_writing(self) -> None:
        """The client does not read the replies: stop reading its commands."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._busy is None:
            self._transport.resume_reading()

    def too_slow(self, now: float) -> None:
        """Answer 421 and close; abort if that is not read."""
        if self._hanging_up:
            self.abort()
            return
        self._session.end(421, "4.4.2 Too slow: come again")
        self._hang_up()
        self.deadline = now + 10.0

    def close_when_answered(self) -> None:
        """Close now, unless a mail waits for its answer."""
        if self._busy is None and not self._hanging_up:
            self._session.end(421, "4.3.2 Closing: come again in a moment")
            self._hang_up()

    def abort(self) -> None:
        self._hanging_up = True
        self._transport.abort()

    def _go_on(self) -> None:
        begun = self._session.begun
        wants = self._session.go_on()
        spoke = bool(self._session.replies)
        self._flush()
        if wants is NextStep.END:
            self._hang_up()
        elif wants is NextStep.VERDICT or wants is NextStep.TLS:
            self._transport.pause_reading()
            self.deadline = float("inf")
            self._busy = self._loop.create_task(self._answer() if wants is NextStep.VERDICT else self._start_tls())
        elif not self._session.begun:
            if spoke:
                self._wait_for_a_command()
        elif not begun:
            self.deadline = self._loop.time() + self._listener.limits.mail_s

    def _wait_for_a_command(self) -> None:
        self.deadline = min(self._loop.time() + self._listener.limits.silence_s, self._idle_until)

    async def _answer(self) -> None:
        code, text = await self._listener.batcher.answer(self._session.mail)
        self._busy = None
        if self._hanging_up:  # the client has gone
            return
        self._session.answer(code, text)
        self._idle_until = self._loop.time() + self._listener.limits.idle_s
        if self._listener.closing:
            self._session.end(421, "4.3.2 Closing: come again in a moment")
        self._transport.resume_reading()
        self._go_on()

    async def _start_tls(self) -> None:
        assert self._listener.tls is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, self._listener.tls, server_side=True, ssl_handshake_timeout=_HANDSHAKE_S
            )
        except OSError:  # an SSLError too; the loop does not say that the connection is lost
            self._busy = None
            self.abort()
            self.connection_lost(None)
            return
        assert transport is not None
        self._transport, self._busy = transport, None
        self._session.protected()
        self._wait_for_a_command()
        self._transport.resume_reading()
        self._go_on()

    def _flush(self) -> None:
        if self._session.replies:
            self._transport.write(bytes(self._session.replies))
            self._session.replies.clear()

    def _hang_up(self) -> None:
        self._flush()
        self._hanging_up = True
        self.deadline = self._loop.time() + 10.0
        self._transport.close()


class _MailBatcher:
    """Passes complete mails to the handler: those that wait together are processed together."""

    def __init__(self, handler: InboundMailHandler) -> None:
        self._handler = handler
        self._queue: asyncio.Queue[tuple[InboundMail, asyncio.Future[bool]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbound mail")

    async def answer(self, mail: InboundMail) -> tuple[int, str]:
        """The reply. A mail that changes nothing is accepted as well: it need not come again either."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((mail, done))
        return (250, "2.0.0 Ok") if await done else (451, "4.3.0 It cannot be stored now: bring it again")

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < _TOGETHER and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            if not await self._take(waiting) and len(waiting) > 1:  # one may be the reason: each alone
                for each in waiting:
                    await self._take([each])
            for _, done in waiting:
                if not done.done():
                    done.set_result(False)

    def close(self) -> None:
        """Wait for what is being processed."""
        self._thread.shutdown(wait=True)

    async def _take(self, waiting: Sequence[tuple[InboundMail, asyncio.Future[bool]]]) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._handler.process, [mail for mail, _ in waiting])
        except PostroomError as error:
            _log.warning("inbound_mail.deferred", mails=len(waiting), reason=str(error))
            return False
        except Exception:  # noqa: BLE001  # the edge of the process: a mail that triggers a bug must not hold up others
            _log.exception("inbound_mail.failed", mails=len(waiting))
            return False
        for _, done in waiting:
            if not done.done():
                done.set_result(True)
        return True


def _client_network(peername: object) -> str:
    """The address, or the /64 network for IPv6, that counts as one client."""
    if not isinstance(peername, tuple):
        return "unknown"
    try:
        address = ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return "unknown"
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None or address.version == 4:
        return str(mapped or address)
    return str(ip_network((address, 64), strict=False))
