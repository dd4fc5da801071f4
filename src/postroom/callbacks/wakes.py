"""Telling a sender of callbacks that an endpoint is owed something: a queue between those who find out and those who send.

A wake says whose lanes to look at, and nothing else: what is owed stands in the store. So a wake that comes twice, or too early,
costs a look; one that is lost is made good by whoever looks at all lanes each minute.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from postroom.errors import Corrupt
from postroom.ledger.deliveries import Lane
from postroom.platform.ports.queues import MAX_PER_CALL, Queues

QUEUE: Final = "callbacks"
_LANES: Final = 50
"""In one item."""


class Wakes:
    """The way in."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, lanes: Collection[Lane], *, delay_s: int = 0) -> None:
        """Each once; durable when it returns. `delay_s` up to 900."""
        names = sorted(set(lanes))
        bodies = [msgspec.json.encode(names[at : at + _LANES]).decode() for at in range(0, len(names), _LANES)]
        for at in range(0, len(bodies), MAX_PER_CALL):
            self._queues.send(QUEUE, bodies[at : at + MAX_PER_CALL], delay_s=delay_s)


def parse_wake(body: str) -> Sequence[Lane]:
    """Whose lanes an item names; `Corrupt`."""
    try:
        return msgspec.json.decode(body, type=list[Lane])
    except msgspec.DecodeError as error:
        raise Corrupt(f"a wake for callbacks cannot be read: {error}") from error
