"""The built-in inbox: an SMTP server on loopback that stores each mail as one object. The default provider, so that a first try
sends nothing to anyone.

It answers 250 only once the mail is stored durably, so a killed inbox has lost nothing that it accepted: a mail whose answer was
never sent is stored or not, which the sender must record as `unknown`. A full disk is answered 452, a store that does not answer
451: the sender defers. Each stored mail begins with what a last hop adds: `Return-Path`, one `Delivered-To` per recipient (RFC
5321 §4.4, RFC 9228), and `Received`.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import NamedTuple

from aiosmtpd.smtp import SMTP, Envelope, Session

from postroom import __version__
from postroom.clock import Clock
from postroom.errors import Permanent, PostroomError, StorageFull, Unavailable
from postroom.model.ids import inbox_object_key, new_mail_id
from postroom.platform.ports.objects import Objects

MAX_BYTES = 50 * 1024 * 1024
"""Largest mail; offered as SIZE (RFC 1870)."""
_IDLE_S = 300.0  # RFC 5321 §4.5.3.2.7: at least five minutes
_LAST_ANSWER_S = 1.0  # for clients that do not read it
_WRITERS = 4  # a store commits one mail at a time: more would only wait


class InboxAddress(NamedTuple):
    """Where the inbox listens."""

    host: str
    port: int


class Inbox:
    """One server in a thread of this process."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str = "127.0.0.1", port: int = 0) -> InboxAddress:
        """Listen; port 0 means a free one. Returns the real address. Raises `Unavailable` if it is in use or does not exist."""
        loop = asyncio.new_event_loop()
        store = _Store(self._objects, self._clock)
        try:
            server = loop.run_until_complete(loop.create_server(lambda: _smtp(store, loop), host, port))
        except OSError as error:
            store.close()
            loop.close()
            raise Unavailable(f"the inbox cannot listen on {host}:{port}: {error.strerror or error}") from error
        address = server.sockets[0].getsockname()
        self._loop = loop
        self._thread = threading.Thread(target=_serve, args=(loop, server, store), name="inbox", daemon=True)
        self._thread.start()
        return InboxAddress(address[0], address[1])

    def stop(self) -> None:
        """Accept no more mail; what is being stored is stored and answered first. Does nothing if it is not running. It may be
        started again."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None


class _Server(SMTP):
    """aiosmtpd with room to read ahead: its stream pauses the socket at twice this, which is once a few lines."""

    line_length_limit = 64 * 1024

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the connection, to close it at the end."""
        assert isinstance(self.event_handler, _Store)
        assert isinstance(transport, asyncio.Transport)
        self.event_handler.connections.add(transport)
        self._connection = transport
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self.event_handler.connections.discard(self._connection)
        super().connection_lost(error)


def _smtp(store: _Store, loop: asyncio.AbstractEventLoop) -> SMTP:
    return _Server(
        store,
        loop=loop,
        hostname="postroom-inbox",
        ident=f"Postroom {__version__}",
        enable_SMTPUTF8=True,
        data_size_limit=MAX_BYTES,
        timeout=_IDLE_S,
    )


def _serve(loop: asyncio.AbstractEventLoop, server: asyncio.Server, store: _Store) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_stop_accepting(server))
        loop.run_until_complete(store.finish())
        loop.run_until_complete(_hang_up(store.connections))
    finally:
        store.close()
        loop.close()


async def _stop_accepting(server: asyncio.Server) -> None:
    """A closed `Server` loses a connection that was accepted and not yet attached, open for ever: attach them first."""
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    await asyncio.sleep(0.01)
    server.close()


async def _hang_up(connections: set[asyncio.Transport]) -> None:
    """Close every connection once its last answer has left."""
    loop = asyncio.get_running_loop()
    polite_until = loop.time() + _LAST_ANSWER_S
    busy = True
    while busy and loop.time() < polite_until + _LAST_ANSWER_S:
        for connection in tuple(connections):
            if loop.time() < polite_until:
                connection.close()
            else:
                connection.abort()
        await asyncio.sleep(0.01)
        busy = bool(connections) or len(asyncio.all_tasks()) > 1


class _Store:
    """What aiosmtpd calls for every connection: the names and the order of arguments are its own."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="inbox-store")
        self._storing = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closing = False
        self.connections: set[asyncio.Transport] = set()

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer PIPELINING (RFC 2920) too: commands are read in order from a stream, which is all it asks."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The final dot arrived: store the mail, then reply."""
        if self._closing:
            return "421 4.3.2 The inbox is closing"
        self._storing += 1
        self._quiet.clear()
        try:
            name = await asyncio.get_running_loop().run_in_executor(self._threads, self._put, session, envelope)
        except StorageFull as error:
            return f"452 4.3.1 {error}"
        except Permanent as error:
            return f"554 5.3.0 {error}"
        except PostroomError as error:
            return f"451 4.3.0 {error}"
        finally:
            self._storing -= 1
            if not self._storing:
                self._quiet.set()
        return f"250 2.0.0 Ok: kept as {name}"

    async def finish(self) -> None:
        """Refuse new mail, and wait until what is being stored is stored and answered."""
        self._closing = True
        await self._quiet.wait()

    def close(self) -> None:
        """Wait for mail whose sender closed the connection while it was being stored."""
        self._threads.shutdown(wait=True)

    def _put(self, session: Session, envelope: Envelope) -> str:
        now = self._clock.now()
        name = new_mail_id(now, self._clock.random(5))
        head = _head(session, envelope, formatdate(now / 1000))
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self._objects.put(inbox_object_key(name), head + content, content_type="message/rfc822")
        return name


def _head(session: Session, envelope: Envelope, date: str) -> bytes:
    peer = session.peer[0] if isinstance(session.peer, tuple) else "unknown"
    lines = [f"Return-Path: <{envelope.mail_from or ''}>"]
    lines += [f"Delivered-To: {recipient}" for recipient in envelope.rcpt_tos]
    lines += [f"Received: from {session.host_name} ([{peer}])", f"\tby postroom-inbox with ESMTP; {date}"]
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape")
