"""What one run and all of its batches share in one worker. The worker builds it (worker.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from postroom.clock import Clock, Instant
from postroom.delivery.compose import Composed
from postroom.delivery.outcome import OutcomeRules
from postroom.ledger.batches import BatchLeases
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.rate_gate import RateGate
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.mail.port import Mailer, Result
from postroom.platform.ports.journal import Journal
from postroom.platform.ports.messages import Messages


def same_key(recipient: Recipient) -> Key:
    """The suppression key of a campaign's recipient: the message has the same key."""
    return recipient.key


def no_topic(_recipient: Recipient) -> str | None:
    """The topic of mail that has none."""
    return None


@dataclass(frozen=True, slots=True)
class StopSignal:
    """Set from outside to end a run."""

    shutdown: asyncio.Event = field(default_factory=asyncio.Event)
    """The worker ends: messages in flight get `drain_s` seconds to be answered."""
    preempt: asyncio.Event = field(default_factory=asyncio.Event)
    """Other campaigns wait: start nothing new, and end once everything in flight is answered, however long that takes."""


@dataclass(frozen=True, slots=True)
class SendJob:
    """What is sent, and by which rules."""

    ref: CampaignRef
    compose: Callable[[int, Recipient, Instant], Composed]
    """Batch number, recipient, time → message. Raises `RowError` if the message can never be made, `Temporary` if it cannot be
    made now (the signing key is not available)."""
    rules: OutcomeRules
    route: ProviderRoute
    buckets: Sequence[str]
    """Rate buckets that must grant every message."""
    topic: Callable[[Recipient], str | None] = no_topic
    """The topic a recipient can unsubscribe from; None: only from all mail."""
    person: Callable[[Recipient], Key] = same_key
    """The recipient's key on the suppression list."""
    workers: int | None = None
    """How many workers send it at the same time. None: as many as the installation has."""


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Called by a run, on the event loop."""

    on_result: Callable[[Result], None] = lambda _result: None
    """Every result: for throttling."""
    on_settled: Callable[[str, MessageStatus], None] = lambda _address, _status: None
    """Every address with its new status: for bounce rates."""
    on_trouble: Callable[[str], None] = lambda _reason: None
    """Why the provider cannot be reached or used; an empty text when it can again."""


@dataclass(frozen=True, slots=True)
class SendContext:
    """One run in one worker."""

    job: SendJob
    batches: BatchLeases
    messages: Messages
    suppression: SuppressionList
    journal: Journal
    mailer: Mailer
    rate_gate: RateGate
    threads: ThreadBridge
    clock: Clock
    stopping: asyncio.Event
    """Set by the run itself or by `stop`: open no new group; what is not begun comes back unsent."""
    stop: StopSignal = field(default_factory=StopSignal)
    events: RunEvents = field(default_factory=RunEvents)
