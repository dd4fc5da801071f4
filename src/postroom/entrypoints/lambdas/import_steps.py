"""What the state machine `import` calls, step by step (infra/machines/import.asl.json): a campaign's import, from plan to end.

Every step may be called again, and twice at once (pipeline/splitter/parallel.py). An answer says in a word how to go on; rows are
never in it. However the import ends, `finish` is the last step: it tells the scheduler, skips who was stored after a campaign was
cancelled, and ends the workflow's record.

The functions of the state machine `import`: plan, a range, a group, the end, and what failed too often (import_steps.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, Protocol, TypedDict, cast

import msgspec

from postroom.entrypoints.lambdas.runtime import container, observed
from postroom.entrypoints.lambdas.workflow import Order, Runs
from postroom.errors import NotFound
from postroom.ledger import scheduler_messages
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.pipeline.splitter.parallel import ParallelImport
from postroom.pipeline.splitter.plan import UploadRange
from postroom.platform.ports.workflows import ExecutionStatus
from postroom.wiring import Container

_SHOWN = 500


class Planned(TypedDict):
    """`ended`: it is over already, go to the end. The keys name lists of ranges and groups."""

    status: Literal["planned", "ended"]
    ranges: str
    groups: str


class Answer(TypedDict):
    """`again`: call the same step once more, it ran out of time."""

    status: Literal["done", "again"]


class ImportSteps:
    """The steps of the state machine."""

    def __init__(self, postroom: Container, steps: ParallelImport, runs: Runs) -> None:
        self._postroom = postroom
        self._steps = steps
        self._runs = runs

    def plan(self, order: Order) -> Planned:
        """First."""
        division = self._steps.plan(order.ref)
        if division is None:
            return {"status": "ended", "ranges": "", "groups": ""}
        return {"status": "planned", "ranges": division.ranges_key, "groups": division.groups_key}

    def read(self, order: Order) -> Answer:
        """One range."""
        self._steps.read(order.ref, msgspec.convert(order.item, UploadRange))
        return {"status": "done"}

    def store(self, order: Order, *, alive: Callable[[], bool]) -> Answer:
        """One group."""
        stored = self._steps.store(order.ref, msgspec.convert(order.item, int), alive=alive)
        return {"status": "again" if stored is False else "done"}

    def finish(self, order: Order, *, alive: Callable[[], bool]) -> Answer:
        """Last, whatever came before."""
        self._steps.finish(order.ref)
        campaign = self._campaign(order.ref)
        if campaign is not None and campaign.status is CampaignStatus.CANCELLED:
            self._postroom.campaigns.cancel(order.ref, alive=alive)  # rows were stored after those who cancelled had counted
            if not alive():
                return {"status": "again"}
        if campaign is not None:
            scheduler_messages.notify_changed(self._postroom.queues, order.ref)
        has_failed = campaign is not None and campaign.status is CampaignStatus.FAILED
        status = ExecutionStatus.FAILED if has_failed else ExecutionStatus.SUCCEEDED
        reason = campaign.reason if campaign is not None and has_failed else None
        self._runs.end(order.workflow, order.execution, order.run, status, reason)
        return {"status": "done"}

    def fail(self, order: Order) -> Answer:
        """A step was tried often enough: the campaign fails with the reason. `finish` comes after it."""
        self._steps.fail(order.ref, f"The import was given up: {said(order.error)}")
        return {"status": "done"}

    def _campaign(self, ref: CampaignRef) -> Campaign | None:
        try:
            return self._postroom.records.get(ref)
        except NotFound:  # deleted
            return None


def said(error: dict[str, str]) -> str:
    """What a state of the machine caught, in words: the message of a function's error, where it was one."""
    cause = error.get("Cause", "")
    try:
        told = msgspec.json.decode(cause, type=dict[str, Any])
    except msgspec.DecodeError:
        told = {}
    return str(told.get("errorMessage") or cause or error.get("Error", "nobody knows why"))[:_SHOWN]


_CHUNK_MS = 240_000
"""Twice what a chunk of a group takes where the table is at its slowest."""
_BATCH_MS = 30_000


class Context(Protocol):
    """Of a call."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def _steps() -> ImportSteps:
    opened = container()
    return ImportSteps(opened, opened.parallel_import, cast("Runs", opened.workflows))


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
