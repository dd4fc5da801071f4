"""Workflows as on AWS, by our own clock: the records in embedded tables, the state machines only names that are taken.

What the machines do, tests/aws and tests/aws_e2e show with real ones; here whoever drives them is the test.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from postroom.clock import Instant
from postroom.platform.aws.workflows import StepWorkflows
from postroom.platform.ports.workflows import HANDLER_LEASE_MS, Again, Done, Handler, HandlerCall
from tests.contract.embedded_backend import EmbeddedBackend

MACHINES = "arn:aws:states:us-east-1:000000000000:stateMachine:test-"


class Machines:
    """As Step Functions answers, of machines that run until they are told."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.runs: dict[str, str] = {}
        """The state of each, by its ARN."""
        self.orders: dict[str, dict[str, Any]] = {}

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, str]:  # noqa: A002, N803
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        with self._guard:
            if self.runs.get(arn, "RUNNING") != "RUNNING":
                raise _error("ExecutionAlreadyExists")
            self.runs[arn] = "RUNNING"
            self.orders[arn] = json.loads(input)
        return {"executionArn": arn}

    def describe_execution(self, *, executionArn: str) -> dict[str, str]:  # noqa: N803
        if executionArn not in self.runs:
            raise _error("ExecutionDoesNotExist")
        return {"status": self.runs[executionArn]}

    def stop_execution(self, *, executionArn: str, cause: str) -> None:  # noqa: N803
        if executionArn not in self.runs:
            raise _error("ExecutionDoesNotExist")
        if self.runs[executionArn] != "RUNNING":
            raise _error("ValidationException")
        self.runs[executionArn] = "ABORTED"


class DrivenWorkflows(StepWorkflows):
    """With somebody who calls handlers as the machines do."""

    def run_due(
        self,
        workflow: str,
        handler: Handler,
        owner: str,
        *,
        lease_ms: int = HANDLER_LEASE_MS,
        dead: Collection[str] = (),
        only: str | None = None,
    ) -> bool:
        """As a worker on one machine: one that is due; False where there is none."""
        assert not dead, "a lease here ends by the clock alone"
        called = False

        def noted(call: HandlerCall) -> Done | Again:
            nonlocal called
            called = True
            return handler(call)

        for _, execution, run in sorted(self._due(workflow)):
            if only in (None, execution):
                self.call(workflow, execution, run, noted, owner, lease_ms=lease_ms)
            if called:
                break
        return called

    def next_due(self, workflow: str) -> Instant | None:
        """When there is work next."""
        return min((Instant(due) for due, _, _ in self._due(workflow)), default=None)

    def _due(self, workflow: str) -> Iterator[tuple[int, str, int]]:
        for execution in self.running(workflow):
            record = self.record(workflow, execution.execution)
            if record is not None and record.is_running:
                yield max(record.due, record.until if record.owner is not None else 0), execution.execution, record.run


class StepsBackend(EmbeddedBackend):
    """The embedded backend, but for its workflows."""

    machines: Machines

    def workflows(self) -> Any:
        return DrivenWorkflows(cast("Any", self.machines), self.tables(), self.clock, machines=MACHINES)


@contextmanager
def open_backend(request: pytest.FixtureRequest) -> Iterator[StepsBackend]:
    """A backend in a fresh directory."""
    root = request.getfixturevalue("tmp_path_factory").mktemp("backend", numbered=True)
    with ExitStack() as closers:
        backend = StepsBackend(root, closers)
        backend.machines = Machines()
        yield backend


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "StartExecution")
