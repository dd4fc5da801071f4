"""What a step of a state machine is called with, and whom it tells that the machine's run is over.

The function of the state machine `work`: long work without a machine of its own, by the workflow's handler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, Protocol, TypedDict, cast

import msgspec

from postroom.clock import Instant, rfc3339
from postroom.entrypoints.lambdas.runtime import container, observed
from postroom.errors import Unsupported
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.workflows import ExecutionStatus, Handler
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE


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


_ENOUGH_MS: Final = 60_000
"""Before the function's end its handler is told to leave off; it goes on at the next call."""
_LEASE_MS: Final = 30_000


class Context(Protocol):
    """Of a call."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class Worked(TypedDict):
    """`wait`: call again at `until`."""

    next: Literal["wait", "end"]
    until: str


class Calls(Protocol):
    """Who calls handlers under a lease (platform.aws.workflows)."""

    def call(self, workflow: str, execution: str, run: int, handler: Handler, owner: str, *, lease_ms: int) -> Instant | None: ...


@observed("work")
def handler(event: Any, context: Context) -> Worked:
    """One call of the handler of whatever workflow it is."""
    order = msgspec.convert(event, Order)
    calls = cast("Calls", container().workflows)
    does = _handler(order.workflow, lambda: context.get_remaining_time_in_millis() > _ENOUGH_MS)
    again = calls.call(order.workflow, order.execution, order.run, does, context.aws_request_id, lease_ms=_LEASE_MS)
    return {"next": "end", "until": ""} if again is None else {"next": "wait", "until": rfc3339(again) or ""}


def _handler(workflow: str, working: Callable[[], bool]) -> Handler:
    """`Unsupported`: nobody does such work."""
    if workflow == ACTION:
        return partial(container().campaign_actions.handle, working=working)
    if workflow == ERASE:
        return partial(container().erasure_requests.handle, working=working)
    raise Unsupported(f"nobody knows the work {workflow}")
