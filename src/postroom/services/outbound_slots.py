"""Calls that wait for somebody outside whom the caller chose (a relay, a name server): they must not take everybody's threads.

One a tenant at a time, a few in all, in one process; one more is a `Conflict`, at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.errors import Conflict

AT_ONCE = 8


class OutboundSlots:
    """Those of one kind. `what`: a word for it, such as `provider`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: set[str | None] = set()
        self._guard = threading.Lock()

    @contextmanager
    def slot(self, tenant: str | None) -> Iterator[None]:
        """Around the call. `Conflict`: as many as may be are under way."""
        with self._guard:
            if tenant in self._under_way or len(self._under_way) >= AT_ONCE:
                raise Conflict(f"another {self._what} is being tested now; wait for its end and try again")
            self._under_way.add(tenant)
        try:
            yield
        finally:
            with self._guard:
                self._under_way.remove(tenant)
