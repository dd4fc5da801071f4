"""`ports.journal` without a journal: a Lambda function has no disk that outlives it, so a page would prove nothing.

A journal gives an exact answer to "which messages of this group were handed over?". It needs storage that is written in a
microsecond and survives a killed process. A function's disk goes with its sandbox
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html), and a write to DynamoDB before each message
would cost as much as the message. So every page here is lost, and the whole group that a killed function left open is in doubt:
its messages become `unknown`. What SES reports of them, matched by their tags, settles them, usually within seconds; the
campaign's policy settles the rest.

`LOST` is also the answer for an owner that is still alive. What it hands over later is `unknown` already, and no worker
sends it again before `settle_after`, an hour, when no function lives longer than 15 minutes.
"""

from __future__ import annotations

from postroom.clock import Clock
from postroom.model.ids import Key
from postroom.model.message import Settlement
from postroom.platform.ports.journal import Trace

_OWNER_BYTES = 10


class LostPage:
    """A `ports.journal.JournalPage` that stores nothing."""

    def handing(self, key: Key) -> None:
        pass

    def answered(self, settlement: Settlement) -> None:
        pass

    def seal(self) -> None:
        pass

    def close(self) -> None:
        pass


class NoJournal:
    """A `ports.journal.Journal` that only names its worker."""

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
    """`ports.journal.Journals` whose pages are always lost."""

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
