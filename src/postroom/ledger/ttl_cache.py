"""A bounded, thread-safe cache whose entries expire: for values that are read often and may be some seconds old."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

from postroom.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Holds up to `most` entries; the oldest is evicted first."""

    def __init__(self, clock: Clock, *, most: int) -> None:
        self._clock = clock
        self._most = most
        self._entries: dict[K, tuple[float, V]] = {}
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value, or None if there is none or it has expired. Takes no lock: one look-up in a dict is atomic."""
        entry = self._entries.get(key)
        return None if entry is None or entry[0] <= self._clock.monotonic() else entry[1]

    def put(self, key: K, value: V, *, seconds: float) -> None:
        """Cache a value for `seconds`; zero or less removes it."""
        with self._lock:
            self._entries.pop(key, None)
            if seconds <= 0:
                return
            if len(self._entries) >= self._most:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = (self._clock.monotonic() + seconds, value)
