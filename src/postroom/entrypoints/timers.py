"""The process that does a server's chores, and nothing else: no import and no sending ever delays a timer."""

from __future__ import annotations

import asyncio

from postroom.entrypoints.chores import Chores
from postroom.entrypoints.process import Stop, attended
from postroom.wiring import Postroom


def run(postroom: Postroom) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(Chores(postroom, only=None, stopped=stop.flag).run)

    asyncio.run(attended(work))


def run_inbox(postroom: Postroom, port: int) -> None:
    """The built-in inbox, until told to stop."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(postroom.inbox_server.start, port=port)
        await stop.event.wait()
        await asyncio.to_thread(postroom.inbox_server.stop)

    asyncio.run(attended(work))
