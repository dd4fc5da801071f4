"""The process that tells tenants' systems what happened: their servers may be slow, and nothing of ours waits for them."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from postroom.entrypoints.process import Stop, attended
from postroom.events.callbacks.follower import Follower
from postroom.wiring import Postroom

_LOOK_S: Final = 0.1


def run(postroom: Postroom) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        follower, lanes = postroom.callback_lines()
        following = asyncio.create_task(asyncio.to_thread(_follow, follower, stop.flag))
        telling = asyncio.create_task(lanes.run(stop.event))
        await asyncio.wait([following, telling], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.gather(following, telling)

    asyncio.run(attended(work))


def _follow(follower: Follower, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if not follower.once():
            stopped.wait(_LOOK_S)
