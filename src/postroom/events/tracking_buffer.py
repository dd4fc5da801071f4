"""Buffers opens and clicks on their way to the queue, so that the client is answered without waiting for a disk.

`TrackingBuffer`: a thread writes what has gathered after `FLUSH_S`, or once there are `GROUP_SIZE` events. It ends when nothing
waits and starts again with the next event. A killed process loses at most the events of the last 250 ms; `close` loses none.
While the store does not answer, events wait. When `MAX_WAITING` is reached opens are dropped, and clicks at one and a half times
that; both are counted. One message may have only `MAX_PER_MESSAGE` waiting, because anyone with a link can request it without
end.

`SyncTrackingSink`: writes each event before the client is answered, for a process that is frozen between calls (AWS Lambda). A
queue that does not answer costs the event, not the answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from postroom.clock import Clock
from postroom.errors import Temporary
from postroom.ledger.inbound_events import MAX_EVENTS_PER_ITEM, InboundEvent, InboundEventQueue
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.event import EventKind
from postroom.telemetry.logs import event_logger

FLUSH_S: Final = 0.2
GROUP_SIZE: Final = MAX_EVENTS_PER_ITEM
MAX_WAITING: Final = 20_000
"""Waiting events before opens are dropped: about 20 MB."""
MAX_PER_MESSAGE: Final = 20
"""Waiting events of one message: a pixel in each size, every link, and scanners."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long `close` waits for a store that does not answer."""
_RETRY_S: Final = 0.25
_log = event_logger(__name__)
_Message = tuple[int, str, bytes]
_Name = tuple[_Message, str]


class TrackingBuffer:
    """Buffers tracking events in memory and writes them in groups. Thread-safe. Call `close` before the stores are closed."""

    def __init__(
        self,
        inbound_events: InboundEventQueue,
        *,
        flush_s: float = FLUSH_S,
        max_waiting: int = MAX_WAITING,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._inbound_events = inbound_events
        self._flush_s = flush_s
        self._max_waiting = max_waiting
        self._close_timeout_s = close_timeout_s
        self._lock = threading.Lock()
        self._waiting: dict[_Name, InboundEvent] = {}
        self._per_message: Counter[_Message] = Counter()
        """How many events of each message wait."""
        self._writer: threading.Thread | None = None
        self._flush_now = threading.Event()
        self._closing = threading.Event()
        self._gave_up = threading.Event()
        self._logged_dropped = 0
        self.dropped = 0
        """Since the process started."""

    def add(self, event: InboundEvent) -> None:
        """Add an event; returns at once. Ignores a repetition of a waiting event, and too many of one message."""
        name = _name(event)
        with self._lock:
            if name in self._waiting or self._per_message[name[0]] >= MAX_PER_MESSAGE:
                return
            if len(self._waiting) >= self._room(event):
                self.dropped += 1
                return
            self._waiting[name] = event
            self._per_message[name[0]] += 1
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="tracking")
                self._writer.start()
            elif len(self._waiting) >= GROUP_SIZE:
                self._flush_now.set()

    def close(self) -> None:
        """Write what waits, for at most `CLOSE_TIMEOUT_S`."""
        self._closing.set()
        self._flush_now.set()
        writer = self._writer
        if writer is not None:
            writer.join(self._close_timeout_s)
            self._gave_up.set()
            writer.join()

    def _room(self, event: InboundEvent) -> int:
        return self._max_waiting if event.event.kind is EventKind.OPENED else self._max_waiting + self._max_waiting // 2

    def _write(self) -> None:
        """Runs in the writer thread; ends when nothing waits."""
        while self._has_more():
            self._flush_now.wait(self._flush_s)
            group = self._take()
            if not self._put(group):
                self._keep(group)
                self._gave_up.wait(_RETRY_S)
            self._log_dropped()

    def _has_more(self) -> bool:
        with self._lock:
            if not self._waiting:
                self._writer = None
            return self._writer is not None

    def _take(self) -> list[InboundEvent]:
        with self._lock:
            if not self._closing.is_set():
                self._flush_now.clear()
            group, self._waiting, self._per_message = list(self._waiting.values()), {}, Counter()
            return group

    def _put(self, group: Sequence[InboundEvent]) -> bool:
        """Write a group; returns False if it must be tried again."""
        try:
            self._inbound_events.put(group)
        except Temporary as error:
            _log.warning("tracking.write_deferred", events=len(group), reason=str(error))
            return False
        except Exception:  # noqa: BLE001  # the edge of a thread: the next group may succeed
            _log.error("tracking.write_failed", exc_info=True, events=len(group))
            self.dropped += len(group)
        return True

    def _keep(self, group: Sequence[InboundEvent]) -> None:
        """Put a group back, before what came since."""
        with self._lock:
            if self._gave_up.is_set():
                self.dropped += len(group) + len(self._waiting)
                self._waiting = {}
            else:
                self._waiting = {_name(event): event for event in group} | self._waiting
                self._per_message = Counter(message for message, _ in self._waiting)

    def _log_dropped(self) -> None:
        dropped = self.dropped
        if dropped > self._logged_dropped:
            _log.error("tracking.events_dropped", events=dropped - self._logged_dropped)
            self._logged_dropped = dropped


def _name(event: InboundEvent) -> _Name:
    return (event.tenant, event.campaign, event.key), event.event.id


_INTERVAL_S: Final = 10.0
_CACHE_SIZE: Final = 10_000


class SyncTrackingSink:
    """Writes each tracking event before it returns: for a process that is frozen between calls (AWS Lambda). Not thread-safe."""

    def __init__(self, inbound_events: InboundEventQueue, clock: Clock) -> None:
        self._inbound_events = inbound_events
        self._put: TtlCache[tuple[_Message, str], bool] = TtlCache(clock, most=_CACHE_SIZE)
        self._per_message: TtlCache[tuple[_Message, int], int] = TtlCache(clock, most=_CACHE_SIZE)
        """How many events of a message were written in each interval of `_INTERVAL_S`."""
        self._clock = clock
        self.dropped = 0
        """Since the process started."""

    def add(self, event: InboundEvent) -> None:
        """Write an event; durable when it returns, unless the queue does not answer: then it is dropped."""
        message = (event.tenant, event.campaign, event.key)
        interval = (message, int(self._clock.monotonic() // _INTERVAL_S))
        already = self._per_message.get(interval) or 0
        if self._put.get((message, event.event.id)) or already >= MAX_PER_MESSAGE:
            return
        try:
            self._inbound_events.put([event])
        except Temporary as error:
            self.dropped += 1
            _log.error("tracking.event_dropped", kind=event.event.kind.value, reason=str(error))
            return
        self._put.put((message, event.event.id), value=True, seconds=_INTERVAL_S)
        self._per_message.put(interval, already + 1, seconds=_INTERVAL_S)

    def close(self) -> None:
        """Does nothing: no event waits."""
