"""Group commit: stores the events of concurrent callers in one write, because a disk write costs the same for one as for many.

While one write is under way, callers wait; the first of them then writes for all. Each call returns once its own events are
durable, or raises. Nothing is kept between calls, so a crash loses nothing that was acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from postroom.ledger.inbound_events import InboundEvent


class _Waiting:
    """One call of `put`."""

    __slots__ = ("done", "error", "inbound_events")

    def __init__(self, inbound_events: Sequence[InboundEvent]) -> None:
        self.inbound_events = inbound_events
        self.done = False
        self.error: BaseException | None = None


class GroupCommit:
    """Writes events of several threads together. Thread-safe."""

    def __init__(self, put: Callable[[Sequence[InboundEvent]], None]) -> None:
        """`put`: of `InboundEventQueue`."""
        self._put = put
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()

    def put(self, inbound_events: Sequence[InboundEvent]) -> None:
        """Durable when it returns. An error of the write is raised in each call whose events were in it."""
        mine = _Waiting(inbound_events)
        with self._lock:
            self._waiting.append(mine)
        with self._write_lock:
            if not mine.done:
                self._write()
        if mine.error is not None:
            raise mine.error

    def _write(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._put([inbound_event for waiting in group for inbound_event in waiting.inbound_events])
        except BaseException as error:  # noqa: BLE001 - raised in each waiting call
            for waiting in group:
                waiting.error = error
        for waiting in group:
            waiting.done = True
