"""What the services stand on: every port, kept by one of the homes. Which one, the settings say."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.clock import Clock
from postroom.errors import Unsupported
from postroom.platform.ports.feed import Feed
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


@dataclass(frozen=True, slots=True)
class Stores:
    """One home's."""

    clock: Clock
    secrets: Secrets
    tables: Tables
    objects: Objects
    messages: Messages
    queues: Queues
    timers: Timers
    workflows: Workflows
    feed: Feed
    journals: Journals
    rates: Rates
    transfers: Transfers
    machine: Machine | None = None
    """None: the home is no machine of ours."""

    def on_one_machine(self, what: str) -> Machine:
        """What `what` needs. `Unsupported`: this home has no such thing."""
        if self.machine is None:
            raise Unsupported(f"{what} is for an installation on one machine; this one is on AWS, where the stack does that")
        return self.machine


def open_stores(settings: Settings) -> AbstractContextManager[Stores]:
    """Those of the home that the settings name; closed at the end."""
    if settings.platform is Platform.AWS:
        from postroom.wiring.aws import open_aws  # boto3 is there only where postroom[aws] is installed

        return open_aws(settings)
    from postroom.wiring.embedded import open_embedded  # a function on AWS never needs it

    return open_embedded(settings)
