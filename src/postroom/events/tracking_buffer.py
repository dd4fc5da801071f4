"""Opens and clicks of the last moment, on their way to the queue: whoever has one is answered first, and nobody waits for a disk.

A thread takes what has gathered after `MOMENT_S`, or sooner once it is `GROUP`, and writes it as one group; it ends when nothing
waits, and begins again with the next hit. A killed process loses at most what came in that moment and what was being written:
under 250 ms of hits. An orderly stop (`close`) loses none.

While the store does not answer, hits wait; there is room for so many opens, and for half as many clicks beyond, since a click
says more. What finds no room is dropped and counted: a hit is never worth an answer, nor the memory of the process. Of one
message only so many wait: whoever has one link can ask for it without end, under another name each time, and would fill the queue
and take the room of all others.

Opens and clicks, on the queue before whoever has one is answered: for a process that is frozen between two calls (AWS Lambda),
whose memory holds nothing for a moment.

A queue that does not answer costs the hit and not the answer, as everywhere (events.hits). The same event again within seconds,
or too many of one message, are not put: whoever has one link can ask for it without end.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from postroom.clock import Clock
from postroom.errors import Temporary
from postroom.ledger.inbound_events import MAX_EVENTS_PER_ITEM, InboundEvent, InboundEventQueue
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.event import EventKind

FLUSH_S: Final = 0.2
GROUP_SIZE: Final = MAX_EVENTS_PER_ITEM
MAX_WAITING: Final = 20_000
"""Hits that wait, before opens are dropped: about 20 MB."""
MAX_PER_MESSAGE: Final = 20
"""In a moment: a picture in each size, every link, and the scanners on the way."""
CLOSE_TIMEOUT_S: Final = 5.0
"""With a store that does not answer while the process ends."""
_AGAIN_S: Final = 0.25
_log = logging.getLogger(__name__)
_Message = tuple[int, str, bytes]
_Name = tuple[_Message, str]


class TrackingBuffer:
    """Those of one process. Whoever closes the stores calls `close` before."""

    def __init__(
        self,
        arrivals: InboundEventQueue,
        *,
        moment_s: float = FLUSH_S,
        most: int = MAX_WAITING,
        patience_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._arrivals = arrivals
        self._moment_s = moment_s
        self._most = most
        self._patience_s = patience_s
        self._guard = threading.Lock()
        self._waiting: dict[_Name, InboundEvent] = {}
        self._of: Counter[_Message] = Counter()
        """How many of them wait."""
        self._writer: threading.Thread | None = None
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._gave_up = threading.Event()
        self._told = 0
        self.dropped = 0
        """Since the process began."""

    def add(self, hit: InboundEvent) -> None:
        """Returns at once. The same event again, while it waits, or too many of one message: nothing."""
        name = _name(hit)
        with self._guard:
            if name in self._waiting or self._of[name[0]] >= MAX_PER_MESSAGE:
                return
            if len(self._waiting) >= self._room(hit):
                self.dropped += 1
                return
            self._waiting[name] = hit
            self._of[name[0]] += 1
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="hits")
                self._writer.start()
            elif len(self._waiting) >= GROUP_SIZE:
                self._hurry.set()

    def close(self) -> None:
        """Write what waits, now."""
        self._closing.set()
        self._hurry.set()
        writer = self._writer
        if writer is not None:
            writer.join(self._patience_s)
            self._gave_up.set()
            writer.join()

    def _room(self, hit: InboundEvent) -> int:
        return self._most if hit.event.kind is EventKind.OPENED else self._most + self._most // 2

    def _write(self) -> None:
        """The thread."""
        while self._has_more():
            self._hurry.wait(self._moment_s)
            group = self._take()
            if not self._put(group):
                self._keep(group)
                self._gave_up.wait(_AGAIN_S)
            self._tell()

    def _has_more(self) -> bool:
        with self._guard:
            if not self._waiting:
                self._writer = None
            return self._writer is not None

    def _take(self) -> list[InboundEvent]:
        with self._guard:
            if not self._closing.is_set():
                self._hurry.clear()
            group, self._waiting, self._of = list(self._waiting.values()), {}, Counter()
            return group

    def _put(self, group: Sequence[InboundEvent]) -> bool:
        """Whether it is done with."""
        try:
            self._arrivals.put(group)
        except Temporary as error:
            _log.warning("%d opens and clicks wait: %s", len(group), error)
            return False
        except Exception:  # noqa: BLE001  # the edge of a thread: another group may be better
            _log.exception("%d opens and clicks cannot be written", len(group))
            self.dropped += len(group)
        return True

    def _keep(self, group: Sequence[InboundEvent]) -> None:
        """For another try, before what came since."""
        with self._guard:
            if self._gave_up.is_set():
                self.dropped += len(group) + len(self._waiting)
                self._waiting = {}
            else:
                self._waiting = {_name(hit): hit for hit in group} | self._waiting
                self._of = Counter(message for message, _ in self._waiting)

    def _tell(self) -> None:
        dropped = self.dropped
        if dropped > self._told:
            _log.error("%d opens and clicks were dropped", dropped - self._told)
            self._told = dropped


def _name(hit: InboundEvent) -> _Name:
    return (hit.tenant, hit.campaign, hit.key), hit.event.id


_SECONDS: Final = 10.0
_MOST: Final = 10_000
_WORD: Final = {EventKind.OPENED: "an open", EventKind.CLICKED: "a click"}


class SyncTrackingSink:
    """As `events.hits.Hits`, without its thread. For the calls of one process, one after the other."""

    def __init__(self, arrivals: InboundEventQueue, clock: Clock) -> None:
        self._arrivals = arrivals
        self._put: TtlCache[tuple[_Message, str], bool] = TtlCache(clock, most=_MOST)
        self._of: TtlCache[tuple[_Message, int], int] = TtlCache(clock, most=_MOST)
        """How many of a message were put in each stretch of `_SECONDS`."""
        self._clock = clock
        self.dropped = 0
        """Since the process began."""

    def add(self, hit: InboundEvent) -> None:
        """Durable when it returns, unless it is dropped."""
        message = (hit.tenant, hit.campaign, hit.key)
        stretch = (message, int(self._clock.monotonic() // _SECONDS))
        already = self._of.get(stretch) or 0
        if self._put.get((message, hit.event.id)) or already >= MAX_PER_MESSAGE:
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
