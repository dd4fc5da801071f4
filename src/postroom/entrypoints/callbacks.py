"""The process that tells tenants' systems what happened: their servers may be slow, and nothing of ours waits for them."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from postroom.callbacks.consumer import FeedConsumer
from postroom.entrypoints.process import Stop, attended
from postroom.wiring import Postroom

_LOOK_S: Final = 0.1


def run(postroom: Postroom) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        await tell(postroom, stop.event, stop.flag)

    asyncio.run(attended(work))


async def tell(postroom: Postroom, ended: asyncio.Event, stopped: threading.Event) -> None:
    """Until both are set. Errors of the stores are raised, once nothing is under way any more."""
    follower, lanes = postroom.callback_lines()
    parts = [asyncio.create_task(asyncio.to_thread(_follow, follower, stopped)), asyncio.create_task(lanes.run(ended))]
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    ended.set()
    stopped.set()
    await asyncio.gather(*parts)


def _follow(follower: FeedConsumer, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if not follower.once():
            stopped.wait(_LOOK_S)
