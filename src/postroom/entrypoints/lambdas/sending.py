"""The functions of the state machines `send` and `stream` (send_steps.py)."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, cast

import msgspec

from postroom.entrypoints.lambdas.observing import observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.machine import Order, Runs
from postroom.entrypoints.send_steps import Looked, SendSteps, Sent, Streamed, TimeLeft


class Context(Protocol):
    """Of a call."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def _steps() -> SendSteps:
    opened = postroom()
    return SendSteps(opened, opened.rounds, cast("Runs", opened.workflows))


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
