"""The process that hears what comes back and makes it part of the records: a burst holds up neither the door nor sending.

It takes mail from its listener and its mailbox, where there are such, and does what waits in the queue of all that was heard, by
the door too. Told to stop, it answers the mails that are whole, and finishes what it has begun to record.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from typing import Final

from postroom.entrypoints.process import Stop, attended, trouble
from postroom.wiring import Postroom
from postroom.wiring.way_back import collecting, listener

_NICE: Final = 5
"""A third of the others' share of a busy processor: what came back can wait, what is to leave cannot."""


def run(postroom: Postroom, door: socket.socket | None = None) -> None:
    """Until told to stop. `door`: where mail comes in. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        tasks = [asyncio.create_task(part) for part in _parts(postroom, door, stop)]
        try:
            await asyncio.gather(*tasks)
        finally:  # what ends one ends all: the parent starts them anew
            stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    os.nice(_NICE)
    asyncio.run(attended(work))


def _parts(postroom: Postroom, door: socket.socket | None, stop: Stop) -> Iterator[Coroutine[None, None, None]]:
    yield asyncio.to_thread(postroom.feedback.run, stop.flag)
    yield asyncio.to_thread(postroom.tally.run, stop.flag)
    if door is not None:
        yield listener(postroom).serve(door, stop.event)
    if (mailbox := collecting(postroom, trouble)) is not None:
        yield asyncio.to_thread(mailbox.run, stop.flag)
