"""The connections to one relay, divided between all mailers of a process that send through it.

A relay allows so many connections, however many campaigns there are. Each mailer that has something to send has an equal share,
and at least one, so that nobody waits behind a campaign of a million. Who has nothing to send has no share: its connections go
when another needs them. A mailer that comes begins with its one at once, above the total for as long as the others take to
give theirs up: a message or two.
"""

from __future__ import annotations

from typing import Protocol


class Member(Protocol):
    """A mailer's pool."""

    @property
    def demands(self) -> bool:
        """It has something to send, or on the way."""
        ...

    @property
    def held(self) -> int:
        """Its connections, those being opened and those saying goodbye included."""
        ...


class Share:
    """See the module's text. On one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._members: set[Member] = set()

    def join(self, member: Member) -> None:
        """From its start on."""
        self._members.add(member)

    def leave(self, member: Member) -> None:
        """Once it is closed."""
        self._members.discard(member)

    def ceiling(self, member: Member) -> int:
        """The most connections for this one now."""
        if len(self._members) <= 1:
            return self._total
        demanding = sum(other is not member and other.demands for other in self._members)
        return max(1, self._total // (demanding + 1))

    def room(self, member: Member) -> int:
        """How many more it may open now, the others' being as they are."""
        if len(self._members) <= 1:
            return self._total
        left = self._total - sum(other.held for other in self._members)
        return left if member.held else max(1, left)
