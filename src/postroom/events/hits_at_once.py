"""Opens and clicks, on the queue before whoever has one is answered: for a process that is frozen between two calls (AWS Lambda),
whose memory holds nothing for a moment.

A queue that does not answer costs the hit and not the answer, as everywhere (events.hits). The same event again within seconds,
or too many of one message, are not put: whoever has one link can ask for it without end.
"""

from __future__ import annotations

import logging
from typing import Final

from postroom.clock import Clock
from postroom.errors import Temporary
from postroom.events.hits import OF_A_MESSAGE
from postroom.ledger.arrivals import Arrival, Arrivals
from postroom.ledger.recent import Recent
from postroom.model.event import EventKind

_SECONDS: Final = 10.0
_MOST: Final = 10_000
_WORD: Final = {EventKind.OPENED: "an open", EventKind.CLICKED: "a click"}
_log = logging.getLogger(__name__)
_Message = tuple[int, str, bytes]


class HitsAtOnce:
    """As `events.hits.Hits`, without its thread. For the calls of one process, one after the other."""

    def __init__(self, arrivals: Arrivals, clock: Clock) -> None:
        self._arrivals = arrivals
        self._put: Recent[tuple[_Message, str], bool] = Recent(clock, most=_MOST)
        self._of: Recent[tuple[_Message, int], int] = Recent(clock, most=_MOST)
        """How many of a message were put in each stretch of `_SECONDS`."""
        self._clock = clock
        self.dropped = 0
        """Since the process began."""

    def add(self, hit: Arrival) -> None:
        """Durable when it returns, unless it is dropped."""
        message = (hit.tenant, hit.campaign, hit.key)
        stretch = (message, int(self._clock.monotonic() // _SECONDS))
        already = self._of.get(stretch) or 0
        if self._put.get((message, hit.event.id)) or already >= OF_A_MESSAGE:
            return
        try:
            self._arrivals.put([hit])
        except Temporary as error:
            self.dropped += 1
            _log.error("%s was dropped: %s", _WORD[hit.event.kind], error)
            return
        self._put.put((message, hit.event.id), value=True, seconds=_SECONDS)
        self._of.put(stretch, already + 1, seconds=_SECONDS)

    def close(self) -> None:
        """Nothing waits."""
