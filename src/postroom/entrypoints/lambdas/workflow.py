"""The input of a state machine's step, and the function `work`: long-running workflows without a state machine of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, Protocol, TypedDict, cast

import msgspec

from postroom.clock import Instant, rfc3339
from postroom.entrypoints.lambdas.runtime import Context, container, observed
from postroom.errors import Unsupported
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.workflows import ExecutionStatus, Handler
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE


class Order(msgspec.Struct, frozen=True):
    """Input of a step."""

    workflow: str
    execution: str
    run: int
    input: str
    """A campaign or stream, as `scheduler_messages.ref_input` writes it."""
    item: Any = None
    """The item of a `Map` state."""
    beside: int = 1
    """Number of items of the `Map` state."""
    error: dict[str, str] = msgspec.field(default_factory=dict)
    """The error that a state caught: `Error`, `Cause`."""

    @property
    def ref(self) -> CampaignRef:
        """The campaign or stream."""
        return scheduler_messages.parse_ref(self.input)


class Runs(Protocol):
    """Keeps the records of workflows."""

    def end(self, workflow: str, execution: str, run: int, state: ExecutionStatus, reason: str | None) -> None:
        """End a run. Repeating it, or ending an older run, is harmless."""
        ...


_ENOUGH_MS: Final = 60_000
"""Time before the timeout when the handler must stop; the next call continues."""
_LEASE_MS: Final = 30_000


class Worked(TypedDict):
    """`wait`: call again at `until`."""

    next: Literal["wait", "end"]
    until: str


class Calls(Protocol):
    """Calls handlers under a lease (platform.aws.workflows)."""

    def call(self, workflow: str, execution: str, run: int, handler: Handler, owner: str, *, lease_ms: int) -> Instant | None: ...


@observed("work")
def handler(event: Any, context: Context) -> Worked:
    """Calls the workflow's handler once."""
    order = msgspec.convert(event, Order)
    calls = cast("Calls", container().workflows)
    does = _handler(order.workflow, lambda: context.get_remaining_time_in_millis() > _ENOUGH_MS)
    again = calls.call(order.workflow, order.execution, order.run, does, context.aws_request_id, lease_ms=_LEASE_MS)
    return {"next": "end", "until": ""} if again is None else {"next": "wait", "until": rfc3339(again) or ""}


def _handler(workflow: str, working: Callable[[], bool]) -> Handler:
    """Raises `Unsupported` if there is no handler."""
    if workflow == ACTION:
        return partial(container().campaign_actions.handle, working=working)
    if workflow == ERASE:
        return partial(container().erasure_requests.handle, working=working)
    raise Unsupported(f"there is no handler for the workflow {workflow}")
