"""The function of the state machine `work`: long work without a machine of its own, by the workflow's handler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, Protocol, TypedDict, cast

import msgspec

from postroom.clock import Instant, rfc3339
from postroom.entrypoints.lambdas.observing import observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.machine import Order
from postroom.errors import Unsupported
from postroom.platform.ports.workflows import Handler
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE

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
    calls = cast("Calls", postroom().workflows)
    does = _handler(order.workflow, lambda: context.get_remaining_time_in_millis() > _ENOUGH_MS)
    again = calls.call(order.workflow, order.execution, order.run, does, context.aws_request_id, lease_ms=_LEASE_MS)
    return {"next": "end", "until": ""} if again is None else {"next": "wait", "until": rfc3339(again) or ""}


def _handler(workflow: str, working: Callable[[], bool]) -> Handler:
    """`Unsupported`: nobody does such work."""
    if workflow == ACTION:
        return partial(postroom().changes.handle, working=working)
    if workflow == ERASE:
        return partial(postroom().erasure_requests.handle, working=working)
    raise Unsupported(f"nobody knows the work {workflow}")
