"""The process that hears what comes back and makes it part of the records: a burst holds up neither the door nor sending."""

from __future__ import annotations

import asyncio

from postroom.entrypoints.process import Stop, attended
from postroom.wiring import Postroom


def run(postroom: Postroom) -> None:
    """Until told to stop. Errors of the stores are raised."""

    async def work(stop: Stop) -> None:
        await asyncio.to_thread(postroom.feedback.run, stop.flag)

    asyncio.run(attended(work))
