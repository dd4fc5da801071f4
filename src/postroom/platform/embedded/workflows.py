"""`ports.workflows` in SQLite: one row for each execution, whose handler is called by the worker that leases it.

A worker that dies leaves its lease: another takes the execution when it expires, or at once if the owner is known to
be dead. Every write of a call carries its fence, so a call that outlived its lease changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from postroom.clock import Clock, Instant
from postroom.errors import LeaseLost
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import check_name
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

_COLUMNS = "workflow, execution, status, input, started_at, ended_at, reason"
_START = """
INSERT OR IGNORE INTO execution (workflow, execution, status, input, started_at, due_at)
VALUES (:workflow, :execution, 'running', :input, :now, :now)
"""

# The owner stays: a call of the previous run may still be ending, and the new run begins after it.
_RESTART = """
UPDATE execution
SET status = 'running', run = run + 1, input = :input, started_at = :now, ended_at = NULL, reason = NULL,
    due_at = :now, failures = 0
WHERE workflow = :workflow AND execution = :execution AND status != 'running'
"""

_STOP = """
UPDATE execution SET status = 'stopped', ended_at = ?, reason = ?
WHERE workflow = ? AND execution = ? AND status = 'running'
"""
_GET = f"SELECT {_COLUMNS} FROM execution WHERE workflow = ? AND execution = ?"
_RUNNING = f"SELECT {_COLUMNS} FROM execution WHERE workflow = ? AND status = 'running' ORDER BY started_at, execution"

# The longest due first. Dead owners are few: the caller filters them.
_DUE = """
SELECT execution, owner, lease_until FROM execution
WHERE workflow = ? AND status = 'running' AND due_at <= ? ORDER BY due_at, execution
"""
_NEXT_DUE = """
SELECT min(max(due_at, CASE WHEN owner IS NULL THEN 0 ELSE lease_until END)) FROM execution
WHERE workflow = ? AND status = 'running'
"""
_CLAIM = f"""
UPDATE execution SET owner = ?, lease_until = ?, fence = fence + 1 WHERE workflow = ? AND execution = ?
RETURNING fence, run, failures, {_COLUMNS}
"""

# The lease's condition. Status and run are no part of it: the last call of a stopped execution still returns its lease.
_HELD = "workflow = :workflow AND execution = :execution AND fence = :fence AND owner IS NOT NULL"
_KEEP = f"UPDATE execution SET lease_until = :until WHERE {_HELD} RETURNING status = 'running' AND run = :run"
_LOOK = f"SELECT status = 'running' AND run = :run FROM execution WHERE {_HELD}"
_CALL_AGAIN = f"""
UPDATE execution SET due_at = :due, failures = :failures, reason = :reason
WHERE {_HELD} AND status = 'running' AND run = :run
"""
_END = f"""
UPDATE execution SET status = :status, ended_at = :now, reason = :reason
WHERE {_HELD} AND status = 'running' AND run = :run
"""
_GIVE_BACK = f"UPDATE execution SET owner = NULL WHERE {_HELD}"


class SqliteWorkflows:
    """`ports.workflows.Workflows` in the control database, and what the workers call."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def start(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002 - the port's word
        values = self._checked(workflow, execution, input)
        with self._database.write() as connection:
            return connection.execute(_START, values).rowcount == 1

    def restart(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002
        values = self._checked(workflow, execution, input)
        with self._database.write() as connection:
            return connection.execute(_START, values).rowcount == 1 or connection.execute(_RESTART, values).rowcount == 1

    def stop(self, workflow: str, execution: str, reason: str) -> None:
        with self._database.write() as connection:
            connection.execute(_STOP, (self._clock.now(), reason, workflow, execution))

    def get(self, workflow: str, execution: str) -> Execution | None:
        with self._database.read() as connection:
            row = connection.execute(_GET, (workflow, execution)).fetchone()
        return None if row is None else _execution(row)

    def running(self, workflow: str) -> list[Execution]:
        with self._database.read() as connection:
            return [_execution(row) for row in connection.execute(_RUNNING, (workflow,))]

    def next_due(self, workflow: str) -> Instant | None:
        """When `run_due` next has work, including expiring leases, or None if nothing is running."""
        with self._database.read() as connection:
            due = connection.execute(_NEXT_DUE, (workflow,)).fetchone()[0]
        return None if due is None else Instant(due)

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
        """Call `handler` for one execution that is due and not leased. Returns False if there is none.

        `owner` names the worker. Leases of owners in `dead` are void. `only` limits the call to one execution. Errors of the
        handler are recorded as `ports.workflows.run_handler` says.
        """
        lease = self._claim(workflow, owner, lease_ms=lease_ms, dead=dead, only=only)
        if lease is None:
            return False
        run_handler(handler, lease)
        return True

    def _checked(self, workflow: str, execution: str, text: str) -> dict[str, Any]:
        check_name(workflow, "workflow")
        check_name(execution, "execution")
        check_input(text)
        return {"workflow": workflow, "execution": execution, "input": text, "now": self._clock.now()}

    def _claim(self, workflow: str, owner: str, *, lease_ms: int, dead: Collection[str], only: str | None) -> _Lease | None:
        with self._database.read() as connection:  # takes no write lock
            if _free(connection, workflow, self._clock.now(), dead, only) is None:
                return None
        with self._database.write() as connection:
            now = self._clock.now()
            execution = _free(connection, workflow, now, dead, only)
            if execution is None:
                return None
            (row,) = connection.execute(_CLAIM, (owner, now + lease_ms, workflow, execution)).fetchall()
        fence, run, failures, *rest = row
        place = {"workflow": workflow, "execution": execution, "fence": fence, "run": run}
        return _Lease(self._database, self._clock, _execution(rest), place=place, failures=failures, lease_ms=lease_ms)


class _Lease:
    """A `ports.workflows.HandlerLease`: one call of a handler."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        execution: Execution,
        *,
        place: dict[str, object],
        failures: int,
        lease_ms: int,
    ) -> None:
        self.execution = execution
        self._database = database
        self._clock = clock
        self._place = place
        self._failures = failures
        self._lease_ms = lease_ms
        self._kept_at = clock.now()

    def alive(self) -> bool:
        """See the port. Reads each time, and writes once a third of the lease is over."""
        now = self._clock.now()
        if now - self._kept_at < self._lease_ms // 3:
            with self._database.read() as connection:
                row = connection.execute(_LOOK, self._place).fetchone()
        else:
            with self._database.write() as connection:
                rows = connection.execute(_KEEP, {**self._place, "until": now + self._lease_ms}).fetchall()
                row = rows[0] if rows else None
            self._kept_at = now
        if row is None:
            raise LeaseLost(f"Another worker runs {self.execution.workflow} {self.execution.execution} now.")
        return bool(row[0])

    def call_again(self, at: Instant) -> None:
        self._write(_CALL_AGAIN, due=at, failures=0, reason=None)

    def fail(self, error: Exception) -> None:
        chance = int.from_bytes(self._clock.random(4), "big") / 0xFFFF_FFFF
        due = self._clock.now() + backoff_ms(self._failures, chance)
        self._write(_CALL_AGAIN, due=due, failures=self._failures + 1, reason=failure_reason(error))

    def end(self, status: ExecutionStatus, reason: str | None) -> None:
        self._write(_END, status=status, reason=reason, now=self._clock.now())

    def give_back(self) -> None:
        with self._database.write() as connection:
            connection.execute(_GIVE_BACK, self._place)

    def _write(self, statement: str, **values: object) -> None:
        """Write under the fence, then return the lease even if the execution was stopped. Does nothing if the lease is lost."""
        with self._database.write() as connection:
            connection.execute(statement, {**self._place, **values})
            connection.execute(_GIVE_BACK, self._place)


def _free(connection: sqlite3.Connection, workflow: str, now: Instant, dead: Collection[str], only: str | None) -> str | None:
    """The execution to call next, or None."""
    for execution, owner, lease_until in connection.execute(_DUE, (workflow, now)):
        if only in (None, execution) and (owner is None or lease_until <= now or owner in dead):
            return str(execution)
    return None


def _execution(row: Sequence[Any]) -> Execution:
    workflow, execution, status, text, started_at, ended_at, reason = row
    ended = None if ended_at is None else Instant(ended_at)
    return Execution(workflow, execution, ExecutionStatus(status), text, Instant(started_at), ended, reason)
