"""No journals (ports.journal): a function has no disk that outlives it, so a page of its would prove nothing.

What a journal is for, an exact answer to "which of this group were really handed over?", needs a place that is written in a
microsecond and survives a killed process. A function's disk goes with its sandbox, and a write to DynamoDB before each message
would cost as much as the message. So every page here is lost, and of a group that a killed function left open all is in doubt:
its messages become `unknown`, and what SES reports of them, by the tags they carry, settles them, usually within seconds; what it
never reports of, the campaign's policy settles.

"Lost" also stands for an owner who is still alive: what such a one hands over later is `unknown` already, and nobody sends it
again before `settle_after` has passed, an hour, when no function lives longer than 15 minutes.
"""

from __future__ import annotations

from postroom.clock import Clock
from postroom.model.ids import Key
from postroom.model.message import Settlement
from postroom.platform.ports.journal import Trace

_OWNER_BYTES = 10


class LostPage:
    """See ports.journal.Page. Keeps nothing."""

    def handing(self, key: Key) -> None:
        pass

    def answered(self, settlement: Settlement) -> None:
        pass

    def seal(self) -> None:
        pass

    def close(self) -> None:
        pass


class NoJournal:
    """See ports.journal.Journal. Gives its worker a name, and pages that keep nothing."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    @property
    def owner(self) -> str:
        return self._owner

    def page(self, batch: int, fence: int) -> LostPage:
        return LostPage()

    def close(self) -> None:
        pass


class NoJournals:
    """See ports.journal.Journals and the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def begin(self, campaign: str) -> NoJournal:
        return NoJournal(f"function-{self._clock.random(_OWNER_BYTES).hex()}")

    def read(self, campaign: str, owner: str, batch: int, fence: int) -> Trace:
        return Trace.LOST

    def dead(self, campaign: str) -> list[str]:
        return []

    def forget(self, campaign: str, owner: str) -> None:
        pass

    def drop(self, campaign: str) -> None:
        pass
