"""The functions of the state machine `import` as the emulator runs them: the real handlers over the real adapters, but with small
ranges and groups, with the run's end noted as an object, and each killed after its work the first time it is called."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from postroom.entrypoints.lambdas import import_steps
from postroom.entrypoints.lambdas.import_steps import ImportSteps
from postroom.entrypoints.lambdas.runtime import container
from postroom.errors import Conflict
from postroom.pipeline.splitter.parallel import ParallelImport
from postroom.pipeline.splitter.plan import ImportSizes
from postroom.platform.ports.workflows import ExecutionStatus

SIZES = ImportSizes(range_rows=300, group_batches=1, chunk_rows=150)


class Ends:
    """Notes the end of a run, however often it is told."""

    def end(self, workflow: str, execution: str, run: int, state: ExecutionStatus, reason: str | None) -> None:
        text = f"{workflow} {run} {state} {reason}"
        with suppress(Conflict):
            container().objects.put(f"ended/{execution}", text.encode(), if_absent=True)


@cache
def steps() -> ImportSteps:
    opened = container()
    small = ParallelImport(
        campaigns=opened.records,
        messages=opened.messages,
        objects=opened.objects,
        suppression=opened.suppression,
        tables=opened.tables,
        tenants=opened.tenants,
        clock=opened.clock,
        sizes=SIZES,
    )
    return ImportSteps(container(), small, Ends())


import_steps._steps = steps


def killed_once(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The sandbox dies after the work was done, before anybody is told, the first time that it is done."""

    def call(event: Any, context: Any) -> Any:
        answer = handler(event, context)
        with suppress(Conflict):
            item = event.get("item", "")
            name = f"killed/{event['execution']}/{handler.__name__}-{item['number'] if isinstance(item, dict) else item}"
            container().objects.put(name, b"", if_absent=True)
            os._exit(1)
        return answer

    return call


plan = killed_once(import_steps.plan)
range_ = killed_once(import_steps.range_)
reduce = killed_once(import_steps.reduce)
finish = killed_once(import_steps.finish)
failed = import_steps.failed


def broken(event: Any, context: Any) -> Any:
    """In the place of any of them."""
    raise RuntimeError("The table is on fire.")
