"""Limits outgoing calls to hosts that the caller chose (a relay, a name server), so that they cannot occupy all threads.

One per tenant and `AT_ONCE` in all, per process. More raise `Conflict` at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.errors import Conflict

AT_ONCE = 8


class OutboundSlots:
    """Slots for one kind of call; `what` names it in errors, for example `provider`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: set[str | None] = set()
        self._guard = threading.Lock()

    @contextmanager
    def slot(self, tenant: str | None) -> Iterator[None]:
        """Hold a slot during the call. Raises `Conflict` if none is free."""
        with self._guard:
            if tenant in self._under_way or len(self._under_way) >= AT_ONCE:
                raise Conflict(f"another {self._what} is being tested now; wait for its end and try again")
            self._under_way.add(tenant)
        try:
            yield
        finally:
            with self._guard:
                self._under_way.remove(tenant)
