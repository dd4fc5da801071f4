"""The steps of the state machines `send` and `stream` (infra/machines): plan a dispatch cycle, send a shard, send a stream.

Each step may be called again, and twice at once: leases and fences keep the calls apart (pipeline/sender). A step ends well
before its function's timeout: requests in flight are answered, and batches that were not started are found by the next cycle. A
permanent error pauses the campaign with the reason, as a worker on one machine does. A temporary error is raised, and the state
machine calls the step again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, Final, Literal, TypedDict, cast

import msgspec

from postroom.clock import rfc3339
from postroom.entrypoints.lambdas.runtime import Context, container, observed
from postroom.entrypoints.lambdas.workflow import Order, Runs
from postroom.errors import Conflict, NotFound, PostroomError, Temporary
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.pipeline.sender.context import StopSignal
from postroom.pipeline.sender.dispatch import Dispatch, Next
from postroom.pipeline.sender.run import AssignedBatches
from postroom.platform.ports.workflows import ExecutionStatus
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

CYCLES_PER_RUN: Final = 500
"""Then a new execution starts: Step Functions allows 25,000 events for one, and a cycle has about ten."""
SHARD_S: Final = 300.0
"""Time for one shard: batches of a killed function wait no longer than that for the next cycle."""
_STOP_S: Final = 20.0
"""Before the timeout: stop waiting for answers; unanswered messages become `unknown`."""
_ANSWERED_S: Final = 60.0
"""Before the timeout: start no new batch."""
_log = event_logger(__name__)
TimeLeft = Callable[[], float]
"""Seconds until the function's timeout."""


class Looked(TypedDict):
    """The next state of the state machine."""

    next: Literal["send", "wait", "end"]
    list: str
    until: str
    portions: int
    """Number of shards on the list."""
    number: int
    """Cycles of this run so far."""


class Sent(TypedDict):
    """Result of a shard."""

    left: int
    """Batches that were not started."""


class Streamed(TypedDict):
    """Result of a stream: whether to call again."""

    next: Literal["again", "end"]


class SendSteps:
    """The steps of the state machine."""

    def __init__(self, container: Container, dispatch: Dispatch, runs: Runs) -> None:
        self._container = container
        self._dispatch = dispatch
        self._runs = runs

    def look(self, order: Order, number: int) -> Looked:
        """Plan the campaign's next dispatch cycle. `number`: cycles of this run before."""
        if number >= CYCLES_PER_RUN:
            return self._end(order, number)
        try:
            found = self._dispatch.look(order.ref, f"{order.run:06}-{number:04}")
        except (Temporary, Conflict, OSError):
            raise
        except PostroomError as error:
            self._pause(order.ref, error)
            return self._end(order, number)
        if found.next is Next.END:
            return self._end(order, number)
        until = rfc3339(found.until) or ""
        return {
            "next": "send" if found.next is Next.SEND else "wait",
            "list": found.key,
            "until": until,
            "portions": found.shards,
            "number": number + 1,
        }

    def send(self, order: Order, left: TimeLeft) -> Sent:
        """Send one shard."""
        assigned = AssignedBatches(map(int, order.item), workers=order.beside)
        stop = StopSignal()
        work = self._container.sender.send(order.ref, stop, _trouble, assigned=assigned)
        try:
            asyncio.run(_in_time(work, stop, left, most_s=SHARD_S))
        except (Temporary, Conflict, OSError):
            raise
        except PostroomError as error:
            self._pause(order.ref, error)
        except Exception as error:  # the machine would call again for ever
            self._pause(order.ref, error)
            raise
        return {"left": len(assigned.left)}

    def stream(self, order: Order, left: TimeLeft) -> Streamed:
        """Send a stream of transactional messages until none is pending."""
        stop = StopSignal()
        asyncio.run(_in_time(self._container.sender.send_stream(order.ref, stop, _trouble), stop, left))
        if stop.preempt.is_set():
            return {"next": "again"}
        scheduler_messages.notify_stream_idle(
            self._container.queues, order.ref
        )  # first: a kill before the last line leaves a message
        self._runs.end(order.workflow, order.execution, order.run, ExecutionStatus.SUCCEEDED, None)
        self._container.streams.look(order.ref)  # a message may have come in this very moment
        return {"next": "end"}

    def _end(self, order: Order, number: int) -> Looked:
        """End the run; start another if the campaign was resumed in this moment."""
        self._runs.end(order.workflow, order.execution, order.run, ExecutionStatus.SUCCEEDED, None)
        with suppress(NotFound):
            if self._container.records.get(order.ref).status is CampaignStatus.SENDING:
                scheduler_messages.start_send(self._container.workflows, order.ref)
        return {"next": "end", "list": "", "until": "", "portions": 0, "number": number}

    def _pause(self, ref: CampaignRef, error: Exception) -> None:
        """Pause the campaign with the reason: a repeated call would fail the same way."""
        _log.error("campaign.send_failed", campaign=ref.campaign, reason=str(error))
        ours = not isinstance(error, PostroomError)
        reason = f"an error in Postroom, {type(error).__name__}: its log says where; then resume it" if ours else str(error)
        with suppress(Conflict, NotFound):  # changed or deleted in this moment: the next look sees
            campaign = self._container.records.get(ref)
            if campaign.status is CampaignStatus.SENDING:
                self._container.records.transition(campaign, CampaignStatus.PAUSED, reason=reason)


async def _in_time(work: Coroutine[Any, Any, None], stop: StopSignal, left: TimeLeft, *, most_s: float | None = None) -> None:
    """Run `work`; preempt it, then shut it down, before the function's timeout."""
    loop = asyncio.get_running_loop()
    answered = left() - _ANSWERED_S
    timers = [
        loop.call_later(max(0.0, answered if most_s is None else min(most_s, answered)), stop.preempt.set),
        loop.call_later(max(0.0, left() - _STOP_S), stop.shutdown.set),
    ]
    try:
        await work
    finally:
        for timer in timers:
            timer.cancel()


def _trouble(text: str) -> None:
    if text:
        _log.warning("provider.unavailable", reason=text)


@cache
def _steps() -> SendSteps:
    app = container()
    return SendSteps(app, app.dispatch, cast("Runs", app.workflows))


@observed("send-round")
def round_(event: Any, context: Context) -> Looked:
    """`SendSteps.look`."""
    return _steps().look(_order(event), int(event.get("round", {}).get("number", 0)))


@observed("sender")
def batches(event: Any, context: Context) -> Sent:
    """`SendSteps.send`."""
    return _steps().send(_order(event), _left(context))


@observed("stream-sender")
def stream(event: Any, context: Context) -> Streamed:
    """`SendSteps.stream`."""
    return _steps().stream(_order(event), _left(context))


def _order(event: Any) -> Order:
    return msgspec.convert(event, Order)


def _left(context: Context) -> TimeLeft:
    return lambda: context.get_remaining_time_in_millis() / 1000
