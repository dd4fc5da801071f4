"""One lane as its process knows it: whether it is at work, how often it failed in a row, and when to look at it again."""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.callbacks.caller import Caller

LOOK_S: Final = 0.1
"""Between two looks at a lane that has something to do."""
FAILURES: Final = 3
"""So many in a row, and requests are made one at a time, with rests between."""
_LONGEST_LOOK_S: Final = 1.0
_REST_S: Final = 0.5
_LONGEST_REST_S: Final = 30.0


class LaneState:
    """What is known of one lane in this process."""

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.failures = 0
        """In a row."""
        self.task: asyncio.Task[None] | None = None
        self.next_look = 0.0
        self.worked_at = 0.0
        self._pause = LOOK_S

    @property
    def busy(self) -> bool:
        """Requests are under way."""
        return self.task is not None and not self.task.done()

    @property
    def fails(self) -> bool:
        """One at a time, and with rests."""
        return self.failures >= FAILURES

    def answered(self, *, well: bool, now: float, rest_s: float = 0.0) -> None:
        """Where it fails again and again, it rests between tries: up to half a minute. `rest_s`: it asks for that itself."""
        self.failures = 0 if well else max(self.failures + 1, FAILURES if rest_s else 0)
        if self.fails:
            rests = min(_LONGEST_REST_S, _REST_S * 2.0 ** min(10, self.failures - FAILURES))
            self.next_look = max(self.next_look, now + max(rests, rest_s))

    def looked(self, *, found: bool, now: float, pause: float = 0.0) -> None:
        """Where nothing is due, the next look is later each time, so that many quiet endpoints cost little."""
        self._pause = LOOK_S if found else min(_LONGEST_LOOK_S, 2 * self._pause)
        if not found:
            self.next_look = max(self.next_look, now + max(pause, self._pause))
