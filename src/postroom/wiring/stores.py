"""What the services stand on: every port, kept by one of the homes. Which one, the settings say."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from postroom.clock import Clock
from postroom.platform.ports.feed import Feed
from postroom.platform.ports.identity import IdentityProvider
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
from postroom.settings import Platform, Settings

if TYPE_CHECKING:
    from postroom.wiring.embedded import Machine


class Stores(Protocol):
    """One home's. Each may be opened when it is first asked for."""

    @property
    def clock(self) -> Clock: ...

    @property
    def secrets(self) -> Secrets: ...

    @property
    def tables(self) -> Tables: ...

    @property
    def objects(self) -> Objects: ...

    @property
    def messages(self) -> Messages: ...

    @property
    def queues(self) -> Queues: ...

    @property
    def timers(self) -> Timers: ...

    @property
    def workflows(self) -> Workflows: ...

    @property
    def feed(self) -> Feed: ...

    @property
    def journals(self) -> Journals: ...

    @property
    def rates(self) -> Rates: ...

    @property
    def transfers(self) -> Transfers: ...

    @property
    def identity(self) -> IdentityProvider | None:
        """None: people sign in at the built-in issuer, or at one of others."""
        ...

    @property
    def machine(self) -> Machine | None:
        """None: the home is no machine of ours."""
        ...

    def on_one_machine(self, what: str) -> Machine:
        """What `what` needs. `Unsupported`: this home has no such thing."""
        ...


def open_stores(settings: Settings) -> AbstractContextManager[Stores]:
    """Those of the home that the settings name; closed at the end."""
    if settings.platform is Platform.AWS:
        from postroom.wiring.aws import open_aws  # boto3 is there only where postroom[aws] is installed

        return open_aws(settings)
    from postroom.wiring.embedded import open_embedded  # a function on AWS never needs it

    return open_embedded(settings)
