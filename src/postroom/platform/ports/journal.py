"""Journals: which messages of an open group were really handed to a provider, and what it answered.

A worker writes a line right before a message's final dot can leave, and another when the answer arrives. Nothing is synced, so a
line costs about a microsecond, and survives a killed process but not a power cut. A worker that finds a group left open reads
the page of the group's owner:
- `ALIVE`: the owner may still be alive (stopped, or only slow) and hand over more: the page is not finished;
- `Handed`: the owner is dead, or has sealed the page. This is the exact truth: a key in neither part was never handed over;
- `LOST`: the page is lost (power cut, another machine), and the whole group is in doubt. A backend may lose every page while
  its owners are alive, so no worker may send a group taken as lost again for longer than a worker can live.
A message may have several lines if it was refused for now and tried again: the last line is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from postroom.model.ids import Key
from postroom.model.message import Settlement


class Trace(Enum):
    """Why a page has no exact answer."""

    ALIVE = "alive"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Handed:
    """What an owner did under one fence of one batch."""

    in_flight: frozenset[Key]
    """Handed over without an answer: their outcome is unknown."""
    answered: Mapping[Key, Settlement]
    """Answered, perhaps not recorded yet."""


class JournalPage(Protocol):
    """The page of one batch under one fence."""

    def handing(self, key: Key) -> None:
        """Call before the final dot of this message may leave."""
        ...

    def answered(self, settlement: Settlement) -> None:
        """Call when the provider has answered, before the outcome is recorded."""
        ...

    def seal(self) -> None:
        """Call when the lease is lost: nothing more is handed over under this fence, and all answers are on the page."""
        ...

    def close(self) -> None:
        """Call when everything is recorded and nothing is in flight: deletes the page."""
        ...


class Journal(Protocol):
    """One worker's journal for one campaign."""

    @property
    def owner(self) -> str:
        """The worker's name, unique for ever: the owner of its leases."""
        ...

    def page(self, batch: int, fence: int) -> JournalPage:
        """A new page."""
        ...

    def close(self) -> None:
        """End the journal: the owner is dead from now on."""
        ...


class Journals(Protocol):
    """All workers' journals."""

    def begin(self, campaign: str) -> Journal:
        """A journal for a new worker. Its owner is alive until the journal is closed or the process ends."""
        ...

    def read(self, campaign: str, owner: str, batch: int, fence: int) -> Handed | Trace:
        """What the page of `owner` for this fence of this batch says."""
        ...

    def dead(self, campaign: str) -> list[str]:
        """Owners of this campaign's journals that are certainly dead."""
        ...

    def forget(self, campaign: str, owner: str) -> None:
        """Delete a dead owner's journal, once no group that it opened is open. Does nothing if the owner is alive or absent."""
        ...

    def drop(self, campaign: str) -> None:
        """Delete all journals of a campaign that is being deleted. May be repeated."""
        ...
