"""What a conformance suite needs of a backend: every port on fresh storage, and a way to let time pass."""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Clock
from postroom.platform.ports.feed import Feed
from postroom.platform.ports.identity import IdentityProvider, Invitation
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.rates import Rates
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.transfers import Transfers
from postroom.platform.ports.workflows import Workflows


class Backend(Protocol):
    """One test's own storage. Each call of a port's name gives another client of the same data, as another process would
    have it; the backend closes them all at the end."""

    @property
    def clock(self) -> Clock:
        """The clock the clients were given."""
        ...

    def wait(self, seconds: float) -> None:
        """Let at least `seconds` pass for everything in this backend: at once where the clock is ours, really where it is not.
        Suites keep it to a few seconds."""
        ...

    def fire(self) -> None:
        """What fires timers has its turn. Nothing, where it has turns of its own, within half a minute."""
        ...

    def tables(self) -> Tables: ...

    def messages(self) -> Messages: ...

    def objects(self) -> Objects: ...

    def queues(self) -> Queues: ...

    def timers(self) -> Timers: ...

    def workflows(self) -> Workflows: ...

    def rates(self) -> Rates: ...

    def journals(self) -> Journals: ...

    def secrets(self) -> Secrets: ...

    def identity(self) -> IdentityProvider: ...

    def set_password(self, invited: Invitation) -> None:
        """What somebody does who was invited."""
        ...

    def transfers(self) -> Transfers:
        """Their URLs work: by our own door, listening, where the backend has no other server."""
        ...

    def feed(self) -> Feed: ...
