"""Errors that only the door knows: they speak of the call, not of what it was about. gateway.problems turns them into answers."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.errors import Conflict, Permanent, Temporary, Unavailable


class PreconditionFailed(Conflict):
    """`If-Match` names another version than the newest: somebody else changed the record since it was read."""


class KeyReused(Conflict):
    """The `Idempotency-Key` belongs to a call with another content."""


class InProgress(Conflict):
    """A call with the same `Idempotency-Key` has not ended yet."""

    retry_after_s = 2


class WrongMedia(Permanent):
    """The body is of a media type that this route does not read."""


class TooMany(Temporary):
    """More calls than are allowed; `fields` are the answer's rate-limit fields."""

    def __init__(self, text: str, retry_after_s: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.fields = fields


class Overloaded(Temporary):
    """Too much is in progress: refused before anything was done."""

    retry_after_s = 1


class CircuitOpen(Unavailable):
    """What is behind the door failed again and again: refused without touching it."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("what is behind the door does not answer at the moment; nothing was done")
        self.retry_after_s = retry_after_s
