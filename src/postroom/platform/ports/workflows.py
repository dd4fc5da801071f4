"""Workflows: long work with a name, started once, carried on after any crash until it ends.

An execution is (`workflow`, `execution`): e.g. (`import`, campaign id). `start` with a name that is running or has
ended is harmless and starts nothing (it is the caller's idempotency key); `restart` runs an ended one again. The work
itself is a handler that the workers know by the workflow's name; it is called at least once with the input, must be
safe to repeat from any point, and says when it is to be called again, or that it is done. A handler that fails with a
temporary error (or `Conflict`) is called again with backoff; with another permanent one, the execution ends as failed
with the reason. One handler runs at a time for an execution while its lease holds; it keeps it by asking
`Call.alive` at least every ten seconds. Names follow the rule of queues; the input is JSON text
up to 60 KB (a reference, never rows).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from postroom.clock import Instant

MAX_INPUT_BYTES = 60_000


class ExecutionStatus(StrEnum):
    """Where an execution stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a workflow."""

    workflow: str
    execution: str
    status: ExecutionStatus
    input: str
    started_at: Instant
    ended_at: Instant | None
    reason: str | None
    """Why it failed or was stopped; while it runs, why its last call failed, None after one that did not."""


@dataclass(frozen=True, slots=True)
class Done:
    """A handler's answer: the work is complete."""


@dataclass(frozen=True, slots=True)
class Again:
    """A handler's answer: call me again at `at` (a time in the past: at once)."""

    at: Instant


class Call(Protocol):
    """One call of a handler."""

    @property
    def execution(self) -> Execution:
        """What is to be done, as it stood when the call began."""
        ...

    def alive(self) -> bool:
        """Keep the lease. False: the execution was stopped, end soon. `LeaseLost`: somebody else carries on, drop the work."""
        ...


Handler = Callable[[Call], Done | Again]


class Workflows(Protocol):
    """See the module's text."""

    def start(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002 - the field's own word
        """Begin, unless an execution of that name exists; whether it began."""
        ...

    def restart(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002
        """Begin, or begin anew one that has ended; False while it is running."""
        ...

    def stop(self, workflow: str, execution: str, reason: str) -> None:
        """No further call of the handler begins; one under way ends by itself. Ended or absent: harmless."""
        ...

    def get(self, workflow: str, execution: str) -> Execution | None:
        """What is known of it."""
        ...

    def running(self, workflow: str) -> list[Execution]:
        """Executions that have not ended, oldest first."""
        ...
