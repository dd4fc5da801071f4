"""The recovery points of one call with an `Idempotency-Key`: what must come out the same when the call is made again.

`steps.once("id", new_id)` answers what `new_id()` made the first time the key was used, durably noted before it is returned. So a
call that died midway and comes again makes the same record under the same id, and finds what is there already. Without
a key there is nothing to recover: it simply makes one. Names are short words; values up to 1,000 characters.

A handler that is called often may name its first point beforehand (`@starts_with("id", service.new_id)`): it is then noted in the
same write in which the call begins, one synced write less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request

Handler = TypeVar("Handler", bound=Callable[..., Any])
Points = dict[str, Callable[[], str]]
_FIRST = "_postroom_first_point"


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


def starts_with(name: str, make: Callable[[], str]) -> Callable[[Handler], Handler]:
    """Marks a handler that begins with `steps.once(name, make)`."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _FIRST, {name: make})
        return handler

    return mark


def first_points(handler: Callable[..., Any]) -> Points:
    """What it is marked with."""
    points: Points = getattr(handler, _FIRST, {})
    return points
