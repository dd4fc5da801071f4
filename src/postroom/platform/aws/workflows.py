"""`ports.workflows` in Step Functions: a record of each execution in the table, and a state machine that runs it.

    #workflows/<workflow>            <execution>              the record, with the run's number and the handler's lease
    #workflows-running/<workflow>    <started>#<execution>    a marker for each execution that has not ended, by start time

A run is an execution of a state machine named `<execution>-<run>`: Step Functions accepts a name once in 90 days
(https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html). The record is written first, the
machine is started after it; a kill in between leaves a record that nothing runs. `start` and `restart` of a running execution
start the machine again, which is harmless while it runs, so a periodic look at running records mends that (entrypoints.house).
`revive` finds a machine that ended without updating its record (it failed, or was stopped by hand), and begins a new run.

The handlers of `work` are called under a lease in the record, so that one runs at a time, even if the machine calls twice.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import ClientError

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, LeaseLost, PostroomError, Unavailable
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.ports.limits import check_name
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write
from postroom.platform.ports.workflows import (
    HANDLER_LEASE_MS,
    Execution,
    ExecutionStatus,
    Handler,
    backoff_ms,
    check_input,
    failure_reason,
    run_handler,
)
from postroom.telemetry.logs import event_logger

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

MACHINES: Final = frozenset({"import", "send", "stream"})
"""Workflows that have their own state machine."""
WORK: Final = "work"
"""The machine of all other workflows: it calls the handler until that returns `Done`."""
_TRIES: Final = 8
_PAGE: Final = 1_000
_ENDED_BEFORE: Final = "ExecutionAlreadyExists"
_NO_EXECUTION: Final = "ExecutionDoesNotExist"
_RUNNING: Final = "RUNNING"
_log = event_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """The stored record of an execution."""

    status: ExecutionStatus
    run: int
    input: str
    started_at: int
    ended_at: int | None = None
    reason: str | None = None
    due: int = 0
    failures: int = 0
    owner: str | None = None
    until: int = 0
    fence: int = 0

    @property
    def is_running(self) -> bool:
        return self.status is ExecutionStatus.RUNNING


class StepWorkflows:
    """`ports.workflows.Workflows` in Step Functions."""

    def __init__(self, client: SFNClient, tables: Tables, clock: Clock, *, machines: str) -> None:
        """`machines`: the prefix of the state machines' ARNs."""
        self._client = client
        self._tables = tables
        self._clock = clock
        self._machines = machines

    def start(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002 - the port's word
        return self._begin(workflow, execution, input, anew=False)

    def restart(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002
        return self._begin(workflow, execution, input, anew=True)

    def _begin(self, workflow: str, execution: str, text: str, *, anew: bool) -> bool:
        check_name(workflow, "workflow")
        check_name(execution, "execution")
        check_input(text)
        for _ in range(_TRIES):
            item = self._item(workflow, execution)
            known = None if item is None else _record(item)
            if known is not None and known.is_running and self._run(workflow, execution, known):
                return False
            if known is not None and not known.is_running and not anew:
                return False
            begun = Record(ExecutionStatus.RUNNING, (known.run if known else 0) + 1, text, self._clock.now())
            if known is not None:  # a call of the previous run may still be ending: its lease stays, and this run begins after it
                begun = replace(begun, owner=known.owner, until=known.until, fence=known.fence)
            with suppress(Conflict):  # another process was first: read again
                self._write(workflow, execution, begun, item)
                self._run(workflow, execution, begun)
                return True
        raise Conflict(f"the execution {execution} of {workflow} is being started all the time; try again")

    def revive(self, workflow: str, execution: str) -> bool:
        """Begin a new run of an execution whose record says running and whose machine has ended. Returns whether that was so.
        Does nothing if the execution has ended or was stopped meanwhile: work that is done must not run again."""
        item = self._item(workflow, execution)
        known = None if item is None else _record(item)
        if known is None or not known.is_running or self._run(workflow, execution, known):
            return False
        begun = replace(known, run=known.run + 1, started_at=self._clock.now(), due=0, failures=0, reason=None)
        try:
            self._write(workflow, execution, begun, item)
        except Conflict:  # changed at this moment: leave it to the process that changed it
            return False
        return self._run(workflow, execution, begun)

    def _run(self, workflow: str, execution: str, record: Record) -> bool:
        """Start the machine's run if it was not started. Returns False if that run has ended."""
        name = f"{execution}-{record.run}"
        order = {"workflow": workflow, "execution": execution, "run": record.run, "input": record.input}
        with aws_errors(f"starting the state machine for {workflow} {execution}"):
            try:
                self._client.start_execution(
                    stateMachineArn=f"{self._machines}{_machine(workflow)}", name=name, input=json.dumps(order, sort_keys=True)
                )
            except ClientError as error:
                if error_code(error) != _ENDED_BEFORE:
                    raise
                return self._is_alive(workflow, name)
        return True

    def _is_alive(self, workflow: str, name: str) -> bool:
        with aws_errors(f"looking at the state machine's run {name}"):
            try:
                return self._client.describe_execution(executionArn=self._arn(workflow, name))["status"] == _RUNNING
            except ClientError as error:
                if error_code(error) != _NO_EXECUTION:
                    raise
                return False  # deleted by AWS: it ended long ago

    def stop(self, workflow: str, execution: str, reason: str) -> None:
        stopped = self._change(workflow, execution, ExecutionStatus.STOPPED, reason)
        if stopped is None:
            return
        try:
            with aws_errors(f"stopping the state machine for {workflow} {execution}"):
                self._client.stop_execution(executionArn=self._arn(workflow, f"{execution}-{stopped.run}"), cause=reason[:1_000])
        except PostroomError as error:  # it may have ended; a machine that still runs reads from the record that it must end
            _log.info("workflow.machine_not_stopped", workflow=workflow, execution=execution, reason=str(error))

    def end(self, workflow: str, execution: str, run: int, status: ExecutionStatus, reason: str | None) -> None:
        """End that run: called by the machine's last step. Does nothing for an older run, or if called again."""
        self._change(workflow, execution, status, reason, run=run)

    def _change(
        self, workflow: str, execution: str, status: ExecutionStatus, reason: str | None, *, run: int | None = None
    ) -> Record | None:
        """End the execution if it is running. Returns the record before that, or None."""
        for _ in range(_TRIES):
            item = self._item(workflow, execution)
            known = None if item is None else _record(item)
            if known is None or not known.is_running or run not in (None, known.run):
                return None
            with suppress(Conflict):
                self._write(workflow, execution, replace(known, status=status, ended_at=self._clock.now(), reason=reason), item)
                return known
        raise Unavailable(f"the execution {execution} of {workflow} is being changed all the time; try again")

    def get(self, workflow: str, execution: str) -> Execution | None:
        known = self.record(workflow, execution)
        return None if known is None else _execution(workflow, execution, known)

    def running(self, workflow: str) -> list[Execution]:
        names: list[str] = []
        cursor: str | None = None
        while True:
            page = self._tables.query(_running(workflow), cursor=cursor, limit=_PAGE)
            names += [item.key.sort.partition("#")[2] for item in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        found = self._tables.get_many([_at(workflow, name) for name in names])
        records = [(name, _record(found[_at(workflow, name)])) for name in dict.fromkeys(names) if _at(workflow, name) in found]
        return [_execution(workflow, name, record) for name, record in records if record.is_running]

    def call(
        self, workflow: str, execution: str, run: int, handler: Handler, owner: str, *, lease_ms: int = HANDLER_LEASE_MS
    ) -> Instant | None:
        """Call the run's handler if it is due and not leased. Returns when to call again, or None if the run has ended."""
        lease = self._claim(workflow, execution, run, owner, lease_ms=lease_ms)
        if isinstance(lease, _Lease):
            run_handler(handler, lease)
            record = self.record(workflow, execution)
            return None if record is None or not record.is_running or record.run != run else Instant(record.due)
        return lease

    def _claim(self, workflow: str, execution: str, run: int, owner: str, *, lease_ms: int) -> _Lease | Instant | None:
        for _ in range(_TRIES):
            item = self._item(workflow, execution)
            known = None if item is None else _record(item)
            if known is None or not known.is_running or known.run != run:
                return None
            now = self._clock.now()
            later = max(known.due, known.until if known.owner is not None else 0)
            if later > now:
                return Instant(later)
            claimed = replace(known, owner=owner, until=now + lease_ms, fence=known.fence + 1)
            with suppress(Conflict):
                self._write(workflow, execution, claimed, item)
                return _Lease(self, workflow, execution, claimed, lease_ms)
        raise Unavailable(f"the execution {execution} of {workflow} is being claimed all the time; try again")

    def under_lease(self, workflow: str, execution: str, fence: int, change: Any) -> Record | None:
        """Change the record if the lease of that fence holds. Returns the new record, or None if the lease is lost or was
        returned."""
        for _ in range(_TRIES):
            item = self._item(workflow, execution)
            known = None if item is None else _record(item)
            if known is None or known.fence != fence or known.owner is None:
                return None
            changed: Record = change(known)
            if changed == known:
                return known
            with suppress(Conflict):
                self._write(workflow, execution, changed, item)
                return changed
        raise Unavailable(f"the execution {execution} of {workflow} is being changed all the time; try again")

    def record(self, workflow: str, execution: str) -> Record | None:
        """The stored record, or None."""
        item = self._item(workflow, execution)
        return None if item is None else _record(item)

    def _item(self, workflow: str, execution: str) -> Item | None:
        return self._tables.get(_at(workflow, execution))

    def _write(self, workflow: str, execution: str, record: Record, known: Item | None) -> None:
        """Write the record, and its marker if it begins or ends. Raises `Conflict` if the record changed since it was read."""
        expect: Expect | int = Expect.ABSENT if known is None else known.version
        writes: list[Write] = [Put(_at(workflow, execution), msgspec.to_builtins(record), expect)]
        before = None if known is None else _record(known)
        marked = before is not None and before.is_running
        if marked and before is not None and (not record.is_running or before.started_at != record.started_at):
            writes.append(Delete(_marker(workflow, execution, before)))
        if record.is_running and (not marked or len(writes) > 1):
            writes.append(Put(_marker(workflow, execution, record), {}))
        self._tables.write(writes)

    def _arn(self, workflow: str, name: str) -> str:
        return f"{self._machines.replace(':stateMachine:', ':execution:', 1)}{_machine(workflow)}:{name}"


class _Lease:
    """A `ports.workflows.HandlerLease`: one call of a handler."""

    def __init__(self, workflows: StepWorkflows, workflow: str, execution: str, record: Record, lease_ms: int) -> None:
        self._workflows = workflows
        self._workflow = workflow
        self._name = execution
        self._record = record
        self._lease_ms = lease_ms
        self._clock = workflows._clock
        self._kept_at = self._clock.now()

    @property
    def execution(self) -> Execution:
        return _execution(self._workflow, self._name, self._record)

    def alive(self) -> bool:
        now = self._clock.now()
        due = now - self._kept_at >= self._lease_ms / 3
        kept = self._under(lambda known: replace(known, until=now + self._lease_ms) if due else known)
        if kept is None:
            raise LeaseLost(f"the execution {self._name} of {self._workflow} is run by another worker now")
        self._kept_at = now if due else self._kept_at
        return kept.is_running and kept.run == self._record.run

    def call_again(self, at: Instant) -> None:
        self._settle(due=at, failures=0, reason=None)

    def fail(self, error: Exception) -> None:
        chance = int.from_bytes(self._clock.random(4), "big") / 0xFFFF_FFFF
        due = self._clock.now() + backoff_ms(self._record.failures, chance)
        self._settle(due=due, failures=self._record.failures + 1, reason=failure_reason(error))

    def end(self, status: ExecutionStatus, reason: str | None) -> None:
        self._settle(status=status, reason=reason, ended_at=self._clock.now())

    def give_back(self) -> None:
        self._settle()

    def _settle(self, **values: Any) -> None:
        """Write the result and return the lease. If the run was stopped or restarted meanwhile, only return the lease."""

        def settled(known: Record) -> Record:
            ours = known.is_running and known.run == self._record.run
            return replace(known, owner=None, **(values if ours else {}))

        self._under(settled)

    def _under(self, change: Any) -> Record | None:
        return self._workflows.under_lease(self._workflow, self._name, self._record.fence, change)


def _machine(workflow: str) -> str:
    return workflow if workflow in MACHINES else WORK


def _at(workflow: str, execution: str) -> ItemKey:
    return ItemKey(f"#workflows/{workflow}", execution)


def _running(workflow: str) -> str:
    return f"#workflows-running/{workflow}"


def _marker(workflow: str, execution: str, record: Record) -> ItemKey:
    return ItemKey(_running(workflow), f"{record.started_at:016}#{execution}")


def _record(item: Item) -> Record:
    try:
        return msgspec.convert(item.data, Record)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of the execution {item.key.sort} cannot be read: {error}") from error


def _execution(workflow: str, execution: str, record: Record) -> Execution:
    ended = None if record.ended_at is None else Instant(record.ended_at)
    return Execution(workflow, execution, record.status, record.input, Instant(record.started_at), ended, record.reason)
