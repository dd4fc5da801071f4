"""Journals: which messages of an open group were really handed to a provider, and what it answered.

A worker writes right before a message's final dot can leave, and when its answer arrives; nothing is synced, so a
line costs about a microsecond and survives a killed process but not a power cut. Whoever finds a group left open asks
for its owner's page:
- the owner may still be alive (stopped, or only slow) and hand over more: `ALIVE`, the page is not finished;
- the owner is dead, or has sealed the page: `Handed`, the exact truth: a key in neither part was never handed over;
- the page is lost (power cut, another machine): `LOST`, the whole group is in doubt. A home may lose every page, and its owners
  may be alive: whoever takes a group for lost leaves it to nobody for longer than a worker can live.
A page may tell of a message more than once, where it was refused for now and came again: what it says last is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from postroom.model.ids import Key
from postroom.model.message import Settlement


class Trace(Enum):
    """When a page has no exact answer."""

    ALIVE = "alive"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Handed:
    """What a dead owner had done under one fence of one batch."""

    in_flight: frozenset[Key]
    """Handed over, no answer: truly unknown."""
    answered: Mapping[Key, Settlement]
    """Answered, perhaps not yet recorded."""


class JournalPage(Protocol):
    """One batch under one fence."""

    def handing(self, key: Key) -> None:
        """The final dot of this message may leave from now on."""
        ...

    def answered(self, settlement: Settlement) -> None:
        """The provider answered; the outcome is not recorded yet."""
        ...

    def seal(self) -> None:
        """The batch is somebody else's: nothing more is handed over under this fence, and every answer there will be is here."""
        ...

    def close(self) -> None:
        """All is recorded and nothing in flight: the page is torn out."""
        ...


class Journal(Protocol):
    """One worker's journal for one campaign."""

    @property
    def owner(self) -> str:
        """The worker's name: unique for ever, and the owner of its leases."""
        ...

    def page(self, batch: int, fence: int) -> JournalPage:
        """A new page."""
        ...

    def close(self) -> None:
        """A clean end: the owner is dead from now on."""
        ...


class Journals(Protocol):
    """All workers' journals."""

    def begin(self, campaign: str) -> Journal:
        """A new worker's journal; its owner is alive until the journal is closed or the process ends."""
        ...

    def read(self, campaign: str, owner: str, batch: int, fence: int) -> Handed | Trace:
        """The page of `owner` for that fence of that batch."""
        ...

    def dead(self, campaign: str) -> list[str]:
        """Owners of this campaign's journals that are certainly dead."""
        ...

    def forget(self, campaign: str, owner: str) -> None:
        """Delete a dead owner's journal, once no group it opened is left open. Alive or absent: harmless."""
        ...

    def drop(self, campaign: str) -> None:
        """Delete all journals of a campaign that is being deleted. Again: harmless."""
        ...
