"""Workflows: long work with a name, started once, continued after any crash until it ends.

An execution is (`workflow`, `execution`): e.g. (`import`, campaign id). `start` with a name that is running or has
ended is harmless and starts nothing (the name is the caller's idempotency key); `restart` runs an ended one again. The work
itself is a handler that workers know by the workflow's name. It is called at least once with the input, must be
safe to repeat from any point, and returns when it is to be called again, or that it is done. A handler that fails with a
temporary error (or `Conflict`) is called again with backoff; with another permanent one, the execution ends as failed
with the reason. One handler runs at a time for an execution while its lease holds; it keeps the lease by calling
`HandlerCall.alive` at least every ten seconds. Names follow the rule of queues; the input is JSON text
up to 60 KB (a reference, never rows).

`run_handler` and `backoff_ms` are the rules for a call that both backends share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Permanent, Temporary, TooLarge
from postroom.platform.ports.limits import utf8

MAX_INPUT_BYTES = 60_000


class ExecutionStatus(StrEnum):
    """The status of an execution."""

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
    """Why it failed or was stopped. While it runs: why its last call failed, or None if it did not."""


@dataclass(frozen=True, slots=True)
class Done:
    """A handler's result: the work is complete."""


@dataclass(frozen=True, slots=True)
class Again:
    """A handler's result: call again at `at` (at once if that is in the past)."""

    at: Instant


class HandlerCall(Protocol):
    """One call of a handler."""

    @property
    def execution(self) -> Execution:
        """The execution as it was when the call began."""
        ...

    def alive(self) -> bool:
        """Keep the lease. Returns False if the execution was stopped: end soon. Raises `LeaseLost` if another worker runs it:
        drop the work."""
        ...


Handler = Callable[[HandlerCall], Done | Again]


class Workflows(Protocol):
    """All executions of an installation."""

    def start(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002 - the field's own word
        """Begin, unless an execution of that name exists. Returns whether it began."""
        ...

    def restart(self, workflow: str, execution: str, input: str) -> bool:  # noqa: A002
        """Begin, or begin again if it has ended. Returns False while it is running."""
        ...

    def stop(self, workflow: str, execution: str, reason: str) -> None:
        """Begin no further call of the handler; one under way ends by itself. Does nothing if it has ended or is absent."""
        ...

    def get(self, workflow: str, execution: str) -> Execution | None:
        """The execution, or None."""
        ...

    def running(self, workflow: str) -> list[Execution]:
        """Executions that have not ended, oldest first."""
        ...


HANDLER_LEASE_MS = 30_000
"""Three times the longest pause between two calls of `alive`."""
_FIRST_BACKOFF_MS = 1_000
_LONGEST_BACKOFF_MS = 300_000


class HandlerLease(HandlerCall, Protocol):
    """A call and its possible ends. If the lease is lost, none of them changes anything."""

    def call_again(self, at: Instant) -> None:
        """The call succeeded: call again at `at`."""
        ...

    def fail(self, error: Exception) -> None:
        """The call failed: call again after `backoff_ms`."""
        ...

    def end(self, status: ExecutionStatus, reason: str | None) -> None:
        """End the execution."""
        ...

    def give_back(self) -> None:
        """Return the lease; the execution is due as before."""
        ...


def run_handler(handler: Handler, lease: HandlerLease) -> None:
    """Call the handler and record its result. Any error but a `PostroomError` is a bug: the execution is backed off, and the
    error is raised to the caller."""
    try:
        answer = handler(lease)
    except (Temporary, Conflict) as error:
        lease.fail(error)
    except Permanent as error:
        lease.end(ExecutionStatus.FAILED, failure_reason(error))
    except Exception as error:
        lease.fail(error)
        raise
    except BaseException:  # the worker is shutting down: another one continues at once
        lease.give_back()
        raise
    else:
        if isinstance(answer, Done):
            lease.end(ExecutionStatus.SUCCEEDED, None)
        else:
            lease.call_again(answer.at)


def backoff_ms(failures: int, chance: float) -> int:
    """The pause in ms after a failure that `failures` others preceded: doubling from 1 s to 5 min, up to half of it taken off by
    `chance` (0 to 1)."""
    longest = min(_LONGEST_BACKOFF_MS, _FIRST_BACKOFF_MS << min(failures, 20))
    return round(longest * (1 - chance / 2))


def failure_reason(error: Exception) -> str:
    """The error's text, with the type's name if it is a bug."""
    text = str(error) if isinstance(error, Temporary | Permanent) else f"{type(error).__name__}: {error}"
    return text[:1_000]


def check_input(text: str) -> None:
    """Checks the size of a workflow's input."""
    size = len(utf8(text, "An input"))
    if size > MAX_INPUT_BYTES:
        raise TooLarge(f"An input of {size} bytes is too large: up to {MAX_INPUT_BYTES}. Store it and send its key.")
