"""What several callers hear at the same time is stored in one write: a write to the disk costs the same for one as for many.

While one write is under way whoever comes waits, and the first of them then writes for all. Each is back once its own is durable,
or knows that it may not be; nothing is kept between calls, so a crash loses nothing that anybody was told of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from postroom.ledger.inbound_events import InboundEvent


class _Waiting:
    """One call."""

    __slots__ = ("arrivals", "done", "error")

    def __init__(self, arrivals: Sequence[InboundEvent]) -> None:
        self.arrivals = arrivals
        self.done = False
        self.error: BaseException | None = None


class GroupCommit:
    """See the module's text. For several threads."""

    def __init__(self, put: Callable[[Sequence[InboundEvent]], None]) -> None:
        """`put`: of `ledger.arrivals.Arrivals`."""
        self._put = put
        self._line: list[_Waiting] = []
        self._entry = threading.Lock()
        self._turn = threading.Lock()

    def put(self, arrivals: Sequence[InboundEvent]) -> None:
        """Durable when it returns. Raises as `put` does, for everybody whose arrivals were in the write."""
        mine = _Waiting(arrivals)
        with self._entry:
            self._line.append(mine)
        with self._turn:
            if not mine.done:
                self._write()
        if mine.error is not None:
            raise mine.error

    def _write(self) -> None:
        with self._entry:
            line, self._line = self._line, []
        try:
            self._put([arrival for waiting in line for arrival in waiting.arrivals])
        except BaseException as error:  # noqa: BLE001 - raised where each of them waits
            for waiting in line:
                waiting.error = error
        for waiting in line:
            waiting.done = True
