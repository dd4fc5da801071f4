"""An SMTP server for what comes back: reports, complaints, wishes to unsubscribe. It keeps no mail and relays none.

250 is said only once the mailroom has stored what the mail says; when it cannot, 451, and the sender brings the mail again. Mails
that come together are opened together, in one thread: a write to the disk costs the same for one as for many, and mail that is
hard to read delays other mail, never the process.

Strangers are held off by numbers: connections in all and from one address (IPv6: from one /64), how long a connection may be
silent (half a command is silence) or bring nothing, how long one mail may take. Everything else that they could make it hold is
bounded by the dialogue.
"""

from __future__ import annotations

import asyncio
import logging
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

MAX_BYTES: Final = 10 * 1024 * 1024
_TOGETHER: Final = 20
_LAST_MAILS_S: Final = 5.0
"""For mails that are whole when the process is told to stop."""
_LOOK_S: Final = 1.0
_BACKLOG: Final = 512
_HANDSHAKE_S: Final = 30.0
_log = logging.getLogger(__name__)


class InboundMailHandler(Protocol):
    """Processes received mail (events.inbound_mail)."""

    def accepts(self, address: str) -> bool:
        """Whether mail to this address is accepted. Must be quick: it is called on the event loop."""
        ...

    def process(self, mails: Sequence[InboundMail]) -> list[MailVerdict]:
        """Process mails and store what they say. After an error none counts as processed."""
        ...


class ListenerLimits(NamedTuple):
    """What strangers may take of us."""

    connections: int = 250
    per_address: int = 50
    """Postfix, the most eager of relays, opens 20 to one place."""
    silence_s: float = 300.0
    """RFC 5321 §4.5.3.2.7: at least five minutes."""
    mail_s: float = 600.0
    """From DATA to the final dot."""
    idle_s: float = 900.0
    """From the greeting, or from one mail, to the DATA of the next, however much is said in between."""


class Listener:
    """One server, on the running loop."""

    def __init__(
        self,
        mailroom: InboundMailHandler,
        terms: ListenerConfig,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ListenerLimits | None = None,
    ) -> None:
        """`tls`: offer STARTTLS with this certificate."""
        self.terms = replace(terms, offers_tls=tls is not None)
        self.mailroom = mailroom
        self.tls = tls
        self.limits = limits or ListenerLimits()
        self.desk = _MailBatcher(mailroom)
        self.closing = False
        self.connections: set[_Connection] = set()
        self._from: Counter[str] = Counter()

    async def serve(self, door: socket.socket, stop: asyncio.Event) -> None:
        """Take mail at `door`, which listens, until `stop`; mails that are whole by then are answered first."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self, loop), sock=door, backlog=_BACKLOG)
        desk = asyncio.create_task(self.desk.work())
        try:
            while not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_S)
                self._end_the_slow(loop.time())
        finally:
            server.close()
            await self._close(loop)
            desk.cancel()
            self.desk.close()

    def refusal(self, peer: str) -> str:
        """Why a connection from there is not taken; empty: it is, and `left` ends it."""
        if self.closing:
            return "4.3.2 Closing: come again in a moment"
        if len(self.connections) >= self.limits.connections or self._from[peer] >= self.limits.per_address:
            return "4.7.0 Too many connections: come again later"
        self._from[peer] += 1
        return ""

    def left(self, connection: _Connection, peer: str) -> None:
        """It has ended."""
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
    """One client's bytes, between the network and the dialogue."""

    def __init__(self, house: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self._loop = loop
        self._peer = ""
        self._transport: asyncio.Transport
        self._dialogue = SmtpServerSession(house.terms, house.mailroom.accepts)
        self._busy: asyncio.Task[None] | None = None
        self._hanging_up = False
        self._idle_until = 0.0
        self.deadline = 0.0
        """When it has been silent, or at one mail, for too long."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = _client_network(transport.get_extra_info("peername"))
        if refusal := self._house.refusal(peer):
            self._transport.write(f"421 {refusal}\r\n".encode())
            self._transport.close()
            self._hanging_up = True
            return
        self._peer = peer
        self._house.connections.add(self)
        self._idle_until = self._loop.time() + self._house.limits.idle_s
        self._wait_for_a_command()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._hanging_up = True
        if self._peer:
            self._house.left(self, self._peer)
            self._peer = ""

    def data_received(self, data: bytes) -> None:
        if not self._hanging_up:
            self._dialogue.receive(data)
            self._go_on()

    def pause_writing(self) -> None:
        """It does not read what we answer: nor do we read on."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._busy is None:
            self._transport.resume_reading()

    def too_slow(self, now: float) -> None:
        """A last word, and the line is cut should it not be heard."""
        if self._hanging_up:
            self.abort()
            return
        self._dialogue.end(421, "4.4.2 Too slow: come again")
        self._hang_up()
        self.deadline = now + 10.0

    def close_when_answered(self) -> None:
        """Now, where no mail waits for its answer."""
        if self._busy is None and not self._hanging_up:
            self._dialogue.end(421, "4.3.2 Closing: come again in a moment")
            self._hang_up()

    def abort(self) -> None:
        self._hanging_up = True
        self._transport.abort()

    def _go_on(self) -> None:
        begun = self._dialogue.begun
        wants = self._dialogue.go_on()
        spoke = bool(self._dialogue.replies)
        self._flush()
        if wants is NextStep.END:
            self._hang_up()
        elif wants is NextStep.VERDICT or wants is NextStep.TLS:
            self._transport.pause_reading()
            self.deadline = float("inf")
            self._busy = self._loop.create_task(self._answer() if wants is NextStep.VERDICT else self._start_tls())
        elif not self._dialogue.begun:
            if spoke:
                self._wait_for_a_command()
        elif not begun:
            self.deadline = self._loop.time() + self._house.limits.mail_s

    def _wait_for_a_command(self) -> None:
        self.deadline = min(self._loop.time() + self._house.limits.silence_s, self._idle_until)

    async def _answer(self) -> None:
        code, text = await self._house.desk.answer(self._dialogue.mail)
        self._busy = None
        if self._hanging_up:  # it did not wait
            return
        self._dialogue.answer(code, text)
        self._idle_until = self._loop.time() + self._house.limits.idle_s
        if self._house.closing:
            self._dialogue.end(421, "4.3.2 Closing: come again in a moment")
        self._transport.resume_reading()
        self._go_on()

    async def _start_tls(self) -> None:
        assert self._house.tls is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, self._house.tls, server_side=True, ssl_handshake_timeout=_HANDSHAKE_S
            )
        except OSError:  # an SSLError too; the loop does not say that the connection is lost
            self._busy = None
            self.abort()
            self.connection_lost(None)
            return
        assert transport is not None
        self._transport, self._busy = transport, None
        self._dialogue.protected()
        self._wait_for_a_command()
        self._transport.resume_reading()
        self._go_on()

    def _flush(self) -> None:
        if self._dialogue.replies:
            self._transport.write(bytes(self._dialogue.replies))
            self._dialogue.replies.clear()

    def _hang_up(self) -> None:
        self._flush()
        self._hanging_up = True
        self.deadline = self._loop.time() + 10.0
        self._transport.close()


class _MailBatcher:
    """Where whole mails wait for the mailroom: those that wait together are opened together."""

    def __init__(self, mailroom: InboundMailHandler) -> None:
        self._mailroom = mailroom
        self._line: asyncio.Queue[tuple[InboundMail, asyncio.Future[bool]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mailroom")

    async def answer(self, mail: InboundMail) -> tuple[int, str]:
        """The reply: that of a mail that changed nothing is the same, it need not come again either."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line.put_nowait((mail, done))
        return (250, "2.0.0 Ok") if await done else (451, "4.3.0 It cannot be stored now: bring it again")

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            waiting = [await self._line.get()]
            while len(waiting) < _TOGETHER and not self._line.empty():
                waiting.append(self._line.get_nowait())
            if not await self._take(waiting) and len(waiting) > 1:  # one may be the reason: each alone
                for each in waiting:
                    await self._take([each])
            for _, done in waiting:
                if not done.done():
                    done.set_result(False)

    def close(self) -> None:
        """Wait for what is being opened."""
        self._thread.shutdown(wait=True)

    async def _take(self, waiting: Sequence[tuple[InboundMail, asyncio.Future[bool]]]) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._mailroom.process, [mail for mail, _ in waiting])
        except PostroomError as error:
            _log.warning("mail that came in is put off: %s", error)
            return False
        except Exception:  # noqa: BLE001  # the edge of the process: a mail that shows a mistake of ours holds up no other
            _log.exception("mail that came in cannot be opened")
            return False
        for _, done in waiting:
            if not done.done():
                done.set_result(True)
        return True


def _client_network(peername: object) -> str:
    """Who is counted as one."""
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
