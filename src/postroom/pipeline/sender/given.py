"""Batches that somebody else has chosen for this worker: each is opened once, and what remains is told.

On one machine a worker looks for due batches itself, which costs it little. Where a look at a campaign costs a read a batch, one
function looks for all (rounds.py), and gives each of those that send a part.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroom.clock import Instant


class GivenBatches:
    """Some of one campaign's. See run.Source."""

    def __init__(self, numbers: Iterable[int], *, beside: int = 1) -> None:
        """`beside`: how many work on parts of the campaign at the same time, this one among them."""
        self._left = dict.fromkeys(numbers)
        self.beside = beside

    @property
    def left(self) -> list[int]:
        """Those that were not begun."""
        return list(self._left)

    def due(self, limit: int) -> list[int]:
        """Some that were not begun."""
        return list(self._left)[:limit]

    def begun(self, number: int) -> None:
        """It is being worked on, or is somebody else's."""
        del self._left[number]

    def next_due(self) -> Instant | None:
        """Of others nothing is known."""
        return None
