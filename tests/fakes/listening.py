"""The SMTP listener on a free port of loopback, in a thread of its own, with a scripted mailroom behind it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.platform.mail.listener import InboundMailHandler, Listener, ListenerLimits
from postroom.platform.mail.listener_session import ListenerConfig

TERMS = ListenerConfig(name="mx.test", max_bytes=1_000_000, kept_bytes=256 * 1024)
OURS = "b@bounces.test"


class ScriptedMailroom:
    """Knows one address. `happens` is called with each group before it counts as taken."""

    def __init__(self, happens: Callable[[Sequence[InboundMail]], None] = lambda mails: None) -> None:
        self.groups: list[list[InboundMail]] = []
        self._happens = happens

    @property
    def mails(self) -> list[InboundMail]:
        return [mail for group in self.groups for mail in group]

    def accepts(self, address: str) -> bool:
        return address == OURS

    def process(self, mails: Sequence[InboundMail]) -> list[MailVerdict]:
        self._happens(mails)
        self.groups.append(list(mails))
        return [MailVerdict.NOTED] * len(mails)


class Listening:
    """A listener that runs."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port
        self._stop: Callable[[], None] = lambda: None
        self._thread: threading.Thread

    def start(self, door: socket.socket) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(door, ready)), name="listener")
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """As SIGTERM does; returns when it is over."""
        self._stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _serve(self, door: socket.socket, ready: threading.Event) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop_soon() -> None:
            loop.call_soon_threadsafe(stop.set)

        self._stop = stop_soon
        ready.set()
        await self.listener.serve(door, stop)
        self._stop = lambda: None


@contextmanager
def listening(
    mailroom: InboundMailHandler,
    *,
    tls: ssl.SSLContext | None = None,
    limits: ListenerLimits | None = None,
    terms: ListenerConfig = TERMS,
    door: socket.socket | None = None,
) -> Iterator[Listening]:
    """Stopped at the end, unless it was before."""
    door = door or socket.create_server(("127.0.0.1", 0))
    made = Listening(Listener(mailroom, terms, tls=tls, limits=limits), door.getsockname()[1])
    made.start(door)
    try:
        yield made
    finally:
        made.stop()
