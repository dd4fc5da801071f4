"""The process that hears what comes back and makes it part of the records: a burst holds up neither the door nor sending.

It takes mail from its listener and its mailbox, where there are such, and does what waits in the queue of all that was heard, by
the door too. Told to stop, it answers the mails that are whole, and finishes what it has begun to record.

The process that tells tenants' systems what happened: their servers may be slow, and nothing of ours waits for them.
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
"""A third of the others' share of a busy processor: what came back can wait, what is to leave cannot."""


def run_feedback(postroom: Container, door: socket.socket | None = None) -> None:
    """Until told to stop. `door`: where mail comes in. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        tasks = [asyncio.create_task(part) for part in _parts(postroom, door, stop)]
        try:
            await asyncio.gather(*tasks)
        finally:  # what ends one ends all: the parent starts them anew
            stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    os.nice(_NICE)
    asyncio.run(supervised(work))


def _parts(postroom: Container, door: socket.socket | None, stop: Stop) -> Iterator[Coroutine[None, None, None]]:
    yield asyncio.to_thread(postroom.feedback.run, stop.flag)
    yield asyncio.to_thread(postroom.rate_recorder.run, stop.flag)
    if door is not None:
        yield postroom.mail_listener().serve(door, stop.event)
    if (mailbox := postroom.mailbox_poller(report_trouble)) is not None:
        yield asyncio.to_thread(mailbox.run, stop.flag)


_LOOK_S: Final = 0.1


def run_callbacks(postroom: Container) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        await process_callbacks(postroom, stop.event, stop.flag)

    asyncio.run(supervised(work))


async def process_callbacks(postroom: Container, ended: asyncio.Event, stopped: threading.Event) -> None:
    """Until both are set. Errors of the stores are raised, once nothing is under way any more."""
    follower, lanes = postroom.callback_workers()
    parts = [asyncio.create_task(asyncio.to_thread(_follow, follower, stopped)), asyncio.create_task(lanes.run(ended))]
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    ended.set()
    stopped.set()
    await asyncio.gather(*parts)


def _follow(follower: FeedConsumer, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if not follower.once():
            stopped.wait(_LOOK_S)
