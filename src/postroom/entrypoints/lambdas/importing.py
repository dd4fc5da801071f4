"""The functions of the state machine `import`: plan, a range, a group, the end, and what failed too often (import_steps.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

import msgspec

from postroom.entrypoints.import_steps import Answer, ImportSteps, Planned
from postroom.entrypoints.lambdas.observing import observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.machine import Order, Runs

_CHUNK_MS = 240_000
"""Twice what a chunk of a group takes where the table is at its slowest."""
_BATCH_MS = 30_000


class Context(Protocol):
    """Of a call."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def _steps() -> ImportSteps:
    from postroom.wiring.importing import parallel_import

    opened = postroom()
    return ImportSteps(opened, parallel_import(opened.stores, opened.ledger), cast("Runs", opened.workflows))


@observed("import-plan")
def plan(event: Any, context: Context) -> Planned:
    """`ImportSteps.plan`."""
    return _steps().plan(_order(event))


@observed("import-range")
def range_(event: Any, context: Context) -> Answer:
    """`ImportSteps.read`."""
    return _steps().read(_order(event))


@observed("import-reduce")
def reduce(event: Any, context: Context) -> Answer:
    """`ImportSteps.store`."""
    return _steps().store(_order(event), alive=_while_there_are(_CHUNK_MS, context))


@observed("import-finish")
def finish(event: Any, context: Context) -> Answer:
    """`ImportSteps.finish`."""
    return _steps().finish(_order(event), alive=_while_there_are(_BATCH_MS, context))


@observed("import-failed")
def failed(event: Any, context: Context) -> Answer:
    """`ImportSteps.fail`."""
    return _steps().fail(_order(event))


def _order(event: Any) -> Order:
    return msgspec.convert(event, Order)


def _while_there_are(milliseconds: int, context: Context) -> Callable[[], bool]:
    """Whether there is time for more; always for the first, else a function with too little of it would get nowhere."""
    first = True

    def alive() -> bool:
        nonlocal first
        asked_first, first = first, False
        return asked_first or context.get_remaining_time_in_millis() > milliseconds

    return alive
