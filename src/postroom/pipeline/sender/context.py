"""What every batch of a campaign or stream is sent with, in one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from postroom.clock import Clock, Instant
from postroom.delivery.compose import Composed
from postroom.delivery.outcome import OutcomeRules
from postroom.ledger.batches import BatchLeases
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient
from postroom.pipeline.sender.rate_gate import RateGate
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.mail.port import Mailer, Result
from postroom.platform.ports.journal import Journal
from postroom.platform.ports.messages import Messages


def same_key(recipient: Recipient) -> Key:
    """A campaign's messages have the same keys as people."""
    return recipient.key


def no_topic(_recipient: Recipient) -> str | None:
    """Mail that nobody can unsubscribe from by itself."""
    return None


def nobody_counts(_address: str, _state: MessageStatus) -> None:
    """Where nobody watches the rates."""


class Composes(Protocol):
    """Makes messages: of a campaign's content (delivery.compose), or of each single message's own (stream.py)."""

    def compose(self, batch: int, recipient: Recipient, now: Instant) -> Composed:
        """`RowError`: never; `Temporary`: not now (it cannot be signed)."""
        ...


@dataclass(frozen=True, slots=True)
class StopSignal:
    """What others tell a run."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """The worker is to end: what is in flight has `drain_s` to be answered."""
    preempt: asyncio.Event = field(default_factory=asyncio.Event)
    """Others wait for their turn: send nothing new, and end when all in flight is answered, however long the relay takes."""


@dataclass(frozen=True, slots=True)
class SendContext:
    """See the module's text."""

    ref: CampaignRef
    batches: BatchLeases
    messages: Messages
    suppression: SuppressionList
    composer: Composes
    rules: OutcomeRules
    mailer: Mailer
    rate_gate: RateGate
    journal: Journal
    threads: ThreadBridge
    clock: Clock
    stopping: asyncio.Event
    """Set: open no new group; what is not begun comes back unsent."""
    on_result: Callable[[Result], None]
    """Told of every result: for throttling, and the rate seen."""
    on_trouble: Callable[[str], None]
    """Told why the provider cannot be reached, and with empty text when it can again."""
    person: Callable[[Recipient], Key] = same_key
    """Who a recipient is on the suppression list."""
    topic: Callable[[Recipient], str | None] = no_topic
    """What their message is about, as the suppression list has it."""
    counted: Callable[[str, MessageStatus], None] = nobody_counts
    """Told of every address that was answered, and what came of it: for rates."""
    leave: StopSignal = field(default_factory=StopSignal)
    """Why it is stopping, where others said so."""
