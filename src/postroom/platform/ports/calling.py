"""What becomes of an execution when its handler was called: the same at both homes, whoever calls it."""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Permanent, Temporary
from postroom.platform.ports.workflows import Call, Done, ExecutionStatus, Handler

LEASE_MS = 30_000
"""Three times what a handler may take between two `alive`."""

_FIRST_BACKOFF_MS = 1_000
_LONGEST_BACKOFF_MS = 300_000


class Lease(Call, Protocol):
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


def carry_out(handler: Handler, lease: Lease) -> None:
    """Call it. What it raises is recorded as the port says; anything but a `PostroomError` is a mistake in it: the execution is
    backed off, and the error goes on to the caller."""
    try:
        answer = handler(lease)
    except (Temporary, Conflict) as error:
        lease.fail(error)
    except Permanent as error:
        lease.end(ExecutionStatus.FAILED, sentence(error))
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


def sentence(error: Exception) -> str:
    """What went wrong, in words; a mistake in our code by its kind too."""
    text = str(error) if isinstance(error, Temporary | Permanent) else f"{type(error).__name__}: {error}"
    return text[:1_000]
