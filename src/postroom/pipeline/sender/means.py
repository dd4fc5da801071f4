"""What every batch of a campaign is sent with, in one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from postroom.clock import Clock
from postroom.delivery.compose import Composer
from postroom.delivery.outcome import OutcomeRules
from postroom.ledger.batches import Batches
from postroom.ledger.suppression import Suppression
from postroom.model.campaign import Home
from postroom.pipeline.sender.off_loop import OffLoop
from postroom.pipeline.sender.pace import Pace
from postroom.platform.mail.port import Mailer, Result
from postroom.platform.ports.journal import Journal
from postroom.platform.ports.messages import Messages


@dataclass(frozen=True, slots=True)
class Means:
    """See the module's text."""

    home: Home
    batches: Batches
    messages: Messages
    suppression: Suppression
    composer: Composer
    rules: OutcomeRules
    mailer: Mailer
    pace: Pace
    journal: Journal
    off_loop: OffLoop
    clock: Clock
    stopping: asyncio.Event
    """Set: open no new group; what is not begun comes back unsent."""
    on_result: Callable[[Result], None]
    """Told of every result: for throttling, and the rate seen."""
    on_trouble: Callable[[str], None]
    """Told why the provider cannot be reached, and with empty text when it can again."""
