"""What a step of a state machine is called with, and whom it tells that the machine's run is over."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.workflows import ExecutionStatus


class Order(msgspec.Struct, frozen=True):
    """What the machine's execution is about."""

    workflow: str
    execution: str
    run: int
    input: str
    """A home, as `notes.ref_input` writes it."""
    item: Any = None
    """Of a map: its part of the list."""
    beside: int = 1
    """How many parts the list has."""
    error: dict[str, str] = msgspec.field(default_factory=dict)
    """What a state caught: `Error`, `Cause`."""

    @property
    def ref(self) -> CampaignRef:
        """Whose campaign or stream."""
        return scheduler_messages.parse_ref(self.input)


class Runs(Protocol):
    """Who keeps the records of workflows."""

    def end(self, workflow: str, execution: str, run: int, state: ExecutionStatus, reason: str | None) -> None:
        """This run is over; of an older one, or again: harmless."""
        ...
