"""What was true a moment ago: a bounded memory whose entries end by themselves, safe to share between threads.

For what is asked again and again and may be some seconds old. Losing an entry costs a question, nothing else.
"""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

from postroom.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """At most `most` entries: the one that was put in first makes room."""

    def __init__(self, clock: Clock, *, most: int) -> None:
        self._clock = clock
        self._most = most
        self._entries: dict[K, tuple[float, V]] = {}
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """What was put in, or None: nothing, or no longer. No lock: one look-up in a dict is atomic."""
        entry = self._entries.get(key)
        return None if entry is None or entry[0] <= self._clock.monotonic() else entry[1]

    def put(self, key: K, value: V, *, seconds: float) -> None:
        """Remember for so long; zero or less forgets."""
        with self._lock:
            self._entries.pop(key, None)
            if seconds <= 0:
                return
            if len(self._entries) >= self._most:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = (self._clock.monotonic() + seconds, value)
