"""The processes `feedback` and `callbacks`.

`feedback` receives mail by its SMTP listener and its mailbox, if they are set, and applies the queued inbound events, those of
the HTTP server too. It has a process so that a burst does not slow the API or sending. Asked to stop, it answers complete mails
and finishes what it has begun to record.

`callbacks` makes the requests to tenants' endpoints: their servers may be slow.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Final

from postroom.callbacks.consumer import FeedConsumer
from postroom.entrypoints.server.process import Stop, report_trouble, supervised
from postroom.wiring import Container

_NICE: Final = 5
"""A third of the others' share of a busy processor: feedback can wait, sending cannot."""


def run_feedback(container: Container, mail_socket: socket.socket | None = None) -> None:
    """Run until asked to stop. `mail_socket`: the SMTP listener's. Raises errors of the stores."""

    async def work(stop: Stop) -> None:
        tasks = [asyncio.create_task(part) for part in _parts(container, mail_socket, stop)]
        try:
            await asyncio.gather(*tasks)
        finally:  # one that ends ends all: the parent starts the process again
            stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    os.nice(_NICE)
    asyncio.run(supervised(work))


def _parts(container: Container, mail_socket: socket.socket | None, stop: Stop) -> Iterator[Coroutine[None, None, None]]:
    yield asyncio.to_thread(container.feedback.run, stop.flag)
    yield asyncio.to_thread(container.rate_recorder.run, stop.flag)
    if mail_socket is not None:
        yield container.mail_listener().serve(mail_socket, stop.event)
    if (mailbox := container.mailbox_poller(report_trouble)) is not None:
        yield asyncio.to_thread(mailbox.run, stop.flag)


_LOOK_S: Final = 0.1


def run_callbacks(container: Container) -> None:
    """Run until asked to stop. Raises errors of the stores."""

    async def work(stop: Stop) -> None:
        await process_callbacks(container, stop.event, stop.flag)

    asyncio.run(supervised(work))


async def process_callbacks(container: Container, ended: asyncio.Event, stopped: threading.Event) -> None:
    """Run until both are set. Raises errors of the stores once no request is under way."""
    consumer, queues = container.callback_workers()
    parts = [asyncio.create_task(asyncio.to_thread(_consume, consumer, stopped)), asyncio.create_task(queues.run(ended))]
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    ended.set()
    stopped.set()
    await asyncio.gather(*parts)


def _consume(consumer: FeedConsumer, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if not consumer.once():
            stopped.wait(_LOOK_S)
