"""The steps of the state machine `import` (infra/machines/import.asl.json): a campaign's import, from plan to end.

Each step may be called again, and twice at once (pipeline/splitter/parallel.py). A result names the next state; rows are never in
it. However the import ends, `finish` is the last step: it notifies the scheduler, skips recipients that were stored after the
campaign was cancelled, and ends the workflow's record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypedDict, cast

import msgspec

from postroom.entrypoints.lambdas.runtime import Context, container, observed
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
    """`ended`: the import is over already. The keys name the lists of ranges and groups."""

    status: Literal["planned", "ended"]
    ranges: str
    groups: str


class Answer(TypedDict):
    """`again`: the step ran out of time, call it once more."""

    status: Literal["done", "again"]


class ImportSteps:
    """The steps of the state machine."""

    def __init__(self, container: Container, steps: ParallelImport, runs: Runs) -> None:
        self._container = container
        self._steps = steps
        self._runs = runs

    def plan(self, order: Order) -> Planned:
        """Plan the import: the first step."""
        division = self._steps.plan(order.ref)
        if division is None:
            return {"status": "ended", "ranges": "", "groups": ""}
        return {"status": "planned", "ranges": division.ranges_key, "groups": division.groups_key}

    def read(self, order: Order) -> Answer:
        """Read one range of the upload."""
        self._steps.read(order.ref, msgspec.convert(order.item, UploadRange))
        return {"status": "done"}

    def store(self, order: Order, *, alive: Callable[[], bool]) -> Answer:
        """Store one group of batches."""
        stored = self._steps.store(order.ref, msgspec.convert(order.item, int), alive=alive)
        return {"status": "again" if stored is False else "done"}

    def finish(self, order: Order, *, alive: Callable[[], bool]) -> Answer:
        """End the import: the last step, also after a failure."""
        self._steps.finish(order.ref)
        campaign = self._campaign(order.ref)
        if campaign is not None and campaign.status is CampaignStatus.CANCELLED:
            self._container.campaigns.cancel(order.ref, alive=alive)  # rows may have been stored after the cancellation counted
            if not alive():
                return {"status": "again"}
        if campaign is not None:
            scheduler_messages.notify_changed(self._container.queues, order.ref)
        has_failed = campaign is not None and campaign.status is CampaignStatus.FAILED
        status = ExecutionStatus.FAILED if has_failed else ExecutionStatus.SUCCEEDED
        reason = campaign.reason if campaign is not None and has_failed else None
        self._runs.end(order.workflow, order.execution, order.run, status, reason)
        return {"status": "done"}

    def fail(self, order: Order) -> Answer:
        """Fail the campaign with the reason, after a step failed too often. `finish` follows."""
        self._steps.fail(order.ref, f"The import was given up: {said(order.error)}")
        return {"status": "done"}

    def _campaign(self, ref: CampaignRef) -> Campaign | None:
        try:
            return self._container.records.get(ref)
        except NotFound:  # deleted
            return None


def said(error: dict[str, str]) -> str:
    """Return the message of an error that a state caught."""
    cause = error.get("Cause", "")
    try:
        told = msgspec.json.decode(cause, type=dict[str, Any])
    except msgspec.DecodeError:
        told = {}
    return str(told.get("errorMessage") or cause or error.get("Error", "unknown error"))[:_SHOWN]


_CHUNK_MS = 240_000
"""Twice the time for a chunk of a group when the table is at its slowest."""
_BATCH_MS = 30_000


@cache
def _steps() -> ImportSteps:
    app = container()
    return ImportSteps(app, app.parallel_import, cast("Runs", app.workflows))


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
    return _steps().store(_order(event), alive=_while_time_left(_CHUNK_MS, context))


@observed("import-finish")
def finish(event: Any, context: Context) -> Answer:
    """`ImportSteps.finish`."""
    return _steps().finish(_order(event), alive=_while_time_left(_BATCH_MS, context))


@observed("import-failed")
def failed(event: Any, context: Context) -> Answer:
    """`ImportSteps.fail`."""
    return _steps().fail(_order(event))


def _order(event: Any) -> Order:
    return msgspec.convert(event, Order)


def _while_time_left(milliseconds: int, context: Context) -> Callable[[], bool]:
    """Return a check for the time left. The first check always passes, so that each call makes progress."""
    first = True

    def alive() -> bool:
        nonlocal first
        asked_first, first = first, False
        return asked_first or context.get_remaining_time_in_millis() > milliseconds

    return alive
