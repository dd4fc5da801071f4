"""What a handler adds to the audit record of its call: which record it changed, from what to what.

Every call under /v1 that is not a read leaves an audit record by itself (gateway.routing). A handler says more with
`trail.changed("template", id, before=…, after=…)`: the values are stored as digests only (SHA-256 of their canonical JSON).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

Handler = TypeVar("Handler", bound=Callable[..., Any])
_READS = "_postroom_reads"


@dataclass(slots=True)
class Trail:
    """One call's."""

    target: str = ""
    """Such as `template/2abc…`."""
    before: object = field(default=None, repr=False)
    after: object = field(default=None, repr=False)

    def changed(self, kind: str, id: str, *, before: object = None, after: object = None) -> None:  # noqa: A002
        """Which record, and what it was and is: JSON values, or None where there was or is nothing."""
        self.target, self.before, self.after = f"{kind}/{id}", before, after


async def _trail(request: Request) -> Trail:
    trail: Trail = request.state.trail
    return trail


Trails = Annotated[Trail, Depends(_trail)]


def reads(handler: Handler) -> Handler:
    """Marks a POST that changes nothing (a preview, a query): no audit record, no idempotency key."""
    setattr(handler, _READS, True)
    return handler


def only_reads(handler: Callable[..., Any]) -> bool:
    """Whether it is marked."""
    return getattr(handler, _READS, False)
