"""Calls that cost processor time: a few work at once in a process, a few more wait, the rest is refused at once.

They wait in threads that all calls share, so no more of them may wait than leave most of those free; nor may one tenant's take
all places.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.gateway.refusals import Overloaded

AT_ONCE = 2
PLACES = 12
"""At work or waiting, of the 40 threads."""
OF_A_TENANT = 6


class Turns:
    """Those of one kind. `what`: such as `templates are being checked`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._work = threading.BoundedSemaphore(AT_ONCE)

    @property
    def count(self) -> int:
        """At work or waiting."""
        return self._taken.total()

    @contextmanager
    def of(self, tenant: str) -> Iterator[None]:
        """Around the work; blocks until there is room for it. `Overloaded`: as many as may be wait for that."""
        with self._guard:
            if self._taken[tenant] >= OF_A_TENANT or self.count >= PLACES:
                raise Overloaded(f"too many {self._what} at the moment; nothing was done")
            self._taken[tenant] += 1
        try:
            with self._work:
                yield
        finally:
            with self._guard:
                self._taken -= Counter({tenant: 1})
