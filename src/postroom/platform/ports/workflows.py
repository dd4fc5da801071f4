"""Workflows: long work with a name, started once, carried on after any crash until it ends.

An execution is (`workflow`, `execution`): e.g. (`import`, campaign id). `start` with a name that is running or has
ended is harmless and starts nothing (it is the caller's idempotency key); `restart` runs an ended one again. The work
itself is a handler that the workers know by the workflow's name; it is called at least once with the input, must be
safe to repeat from any point, and says when it is to be called again, or that it is done. A handler that fails with a
temporary error (or `Conflict`) is called again with backoff; with another permanent one, the execution ends as failed
with the reason. One handler runs at a time for an execution while its lease holds; it keeps it by asking
`Call.alive` at least every ten seconds. Names follow the rule of queues; the input is JSON text
up to 60 KB (a reference, never rows).

What becomes of an execution when its handler was called: the same at both homes, whoever calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Permanent, Temporary

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


class HandlerCall(Protocol):
    """One call of a handler."""

    @property
    def execution(self) -> Execution:
        """What is to be done, as it stood when the call began."""
        ...

    def alive(self) -> bool:
        """Keep the lease. False: the execution was stopped, end soon. `LeaseLost`: somebody else carries on, drop the work."""
        ...


Handler = Callable[[HandlerCall], Done | Again]


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


HANDLER_LEASE_MS = 30_000
"""Three times what a handler may take between two `alive`."""

_FIRST_BACKOFF_MS = 1_000
_LONGEST_BACKOFF_MS = 300_000


class HandlerLease(HandlerCall, Protocol):
    """A call, and how it may end. Too late, none of it changes anything."""

    def call_again(self, at: Instant) -> None:
        """The call went well."""
        ...

    def fail(self, error: Exception) -> None:
        """It is called again after a pause (`backoff_ms`)."""
        ...

    def end(self, status: ExecutionStatus, reason: str | None) -> None:
        """Nothing more is to be done."""
        ...

    def give_back(self) -> None:
        """Nobody's fault: due as it was."""
        ...


def run_handler(handler: Handler, lease: HandlerLease) -> None:
    """Call it. What it raises is recorded as the port says; anything but a `PostroomError` is a mistake in it: the execution is
    backed off, and the error goes on to the caller."""
    try:
        answer = handler(lease)
    except (Temporary, Conflict) as error:
        lease.fail(error)
    except Permanent as error:
        lease.end(ExecutionStatus.FAILED, failure_reason(error))
    except Exception as error:
        lease.fail(error)
        raise
    except BaseException:  # the worker is told to end: somebody else carries on at once
        lease.give_back()
        raise
    else:
        if isinstance(answer, Done):
            lease.end(ExecutionStatus.SUCCEEDED, None)
        else:
            lease.call_again(answer.at)


def backoff_ms(failures: int, chance: float) -> int:
    """The pause after a failure that `failures` came before: doubling from a second to five minutes, each with up to half of it
    left to `chance`, 0 to 1."""
    longest = min(_LONGEST_BACKOFF_MS, _FIRST_BACKOFF_MS << min(failures, 20))
    return round(longest * (1 - chance / 2))


def failure_reason(error: Exception) -> str:
    """What went wrong, in words; a mistake in our code by its kind too."""
    text = str(error) if isinstance(error, Temporary | Permanent) else f"{type(error).__name__}: {error}"
    return text[:1_000]
