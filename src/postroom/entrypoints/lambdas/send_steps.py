"""What the state machines `send` and `stream` call (infra/machines): look for a round, send a portion, send single messages.

Each step may be called again, and twice at once: leases and fences keep two apart (pipeline/sender). A step ends well before its
function's time is up: what is in flight is answered, what was not begun is found by the next round. What a campaign cannot go on
with pauses it with the reason, as a worker on one machine does it; what passes is raised, and the machine calls again.

The functions of the state machines `send` and `stream` (send_steps.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, Final, Literal, Protocol, TypedDict, cast

import msgspec

from postroom.clock import rfc3339
from postroom.entrypoints.lambdas.runtime import container, observed
from postroom.entrypoints.lambdas.workflow import Order, Runs
from postroom.errors import Conflict, NotFound, PostroomError, Temporary
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.pipeline.sender.context import StopSignal
from postroom.pipeline.sender.dispatch import Dispatch, Next
from postroom.pipeline.sender.run import AssignedBatches
from postroom.platform.ports.workflows import ExecutionStatus
from postroom.wiring import Container

ROUNDS_A_RUN: Final = 500
"""Then a new run begins: a machine's execution may have 25,000 events, and a round has about ten."""
PORTION_S: Final = 300.0
"""How long a portion is worked on: what a killed function held waits no longer than that for the next round."""
_STOP_S: Final = 20.0
"""Before the function's end nothing is waited for any more: what is not answered by then is unknown."""
_ANSWERED_S: Final = 60.0
"""Before the function's end nothing new is begun."""
_log = logging.getLogger(__name__)
TimeLeft = Callable[[], float]
"""Seconds until the function is ended."""


class Looked(TypedDict):
    """How the machine goes on."""

    next: Literal["send", "wait", "end"]
    list: str
    until: str
    portions: int
    """On the list."""
    number: int
    """Looks of this run so far."""


class Sent(TypedDict):
    """Of a portion."""

    left: int
    """Batches that were not begun."""


class Streamed(TypedDict):
    """Of a stream: whether there is more to come."""

    next: Literal["again", "end"]


class SendSteps:
    """The steps of the state machine."""

    def __init__(self, postroom: Container, rounds: Dispatch, runs: Runs) -> None:
        self._postroom = postroom
        self._rounds = rounds
        self._runs = runs

    def look(self, order: Order, number: int) -> Looked:
        """The campaign's next round. `number`: looks of this run before."""
        if number >= ROUNDS_A_RUN:
            return self._end(order, number)
        try:
            found = self._rounds.look(order.ref, f"{order.run:06}-{number:04}")
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
        """One portion."""
        assigned = AssignedBatches(map(int, order.item), workers=order.beside)
        stop = StopSignal()
        work = self._postroom.sender.send(order.ref, stop, _trouble, assigned=assigned)
        try:
            asyncio.run(_in_time(work, stop, left, most_s=PORTION_S))
        except (Temporary, Conflict, OSError):
            raise
        except PostroomError as error:
            self._pause(order.ref, error)
        except Exception as error:  # the machine would call again for ever
            self._pause(order.ref, error)
            raise
        return {"left": len(assigned.left)}

    def stream(self, order: Order, left: TimeLeft) -> Streamed:
        """A stream of single messages, until it owes none."""
        stop = StopSignal()
        asyncio.run(_in_time(self._postroom.sender.send_stream(order.ref, stop, _trouble), stop, left))
        if stop.preempt.is_set():
            return {"next": "again"}
        scheduler_messages.notify_stream_idle(
            self._postroom.queues, order.ref
        )  # first: a kill before the last line leaves a note
        self._runs.end(order.workflow, order.execution, order.run, ExecutionStatus.SUCCEEDED, None)
        self._postroom.streams.look(order.ref)  # a message may have come in this very moment
        return {"next": "end"}

    def _end(self, order: Order, number: int) -> Looked:
        """The run is over; the campaign may have been resumed in this very moment."""
        self._runs.end(order.workflow, order.execution, order.run, ExecutionStatus.SUCCEEDED, None)
        with suppress(NotFound):
            if self._postroom.records.get(order.ref).status is CampaignStatus.SENDING:
                scheduler_messages.start_send(self._postroom.workflows, order.ref)
        return {"next": "end", "list": "", "until": "", "portions": 0, "number": number}

    def _pause(self, ref: CampaignRef, error: Exception) -> None:
        """It would end the same way each time: say so where people look."""
        _log.error("campaign %s: %s", ref.campaign, error)
        ours = not isinstance(error, PostroomError)
        reason = f"an error in Postroom, {type(error).__name__}: its log says where; then resume it" if ours else str(error)
        with suppress(Conflict, NotFound):  # changed or deleted in this moment: the next look sees
            campaign = self._postroom.records.get(ref)
            if campaign.status is CampaignStatus.SENDING:
                self._postroom.records.transition(campaign, CampaignStatus.PAUSED, reason=reason)


async def _in_time(work: Coroutine[Any, Any, None], stop: StopSignal, left: TimeLeft, *, most_s: float | None = None) -> None:
    """Do the work, but preempt it and then shut it down before the function's time is up."""
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
        _log.warning("the provider: %s", text)


class Context(Protocol):
    """Of a call."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def _steps() -> SendSteps:
    opened = container()
    return SendSteps(opened, opened.dispatch, cast("Runs", opened.workflows))


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
