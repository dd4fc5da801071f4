"""The recovery points of one call with an `Idempotency-Key`: what must come out the same when the call is made again.

`steps.once("id", new_id)` answers what `new_id()` made the first time the key was used, durably noted before it is returned. So a
call that died midway and comes again makes the same record under the same id, and finds what is there already. Without
a key there is nothing to recover: it simply makes one. Names are short words; values up to 1,000 characters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Depends, Request


class Steps(Protocol):
    """See the module's text."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        """What `make` made the first time. Blocks: call it in a handler that is no coroutine."""
        ...


class Unkeyed:
    """A call without a key."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        return make()


async def _steps(request: Request) -> Steps:
    steps: Steps = getattr(request.state, "steps", None) or Unkeyed()
    return steps


Once = Annotated[Steps, Depends(_steps)]
