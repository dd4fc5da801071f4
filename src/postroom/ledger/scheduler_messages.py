"""Notes to the scheduler: how services and the splitter tell it to look at a campaign, without knowing it.

A note carries no order, only whose record to look at: the record says what is to be done. So notes may be lost, doubled or late
without harm beyond delay, and a crash between a change and its note is mended by sending the note again.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.workflows import Workflows

SCHEDULER_QUEUE = "scheduler"
IMPORT = "import"
"""The workflow that runs while a campaign is importing. Its execution, like that of `SEND`, is the campaign's id."""
SEND = "send"
"""The workflow that runs while a campaign is sending."""
STREAM = "stream"
"""The workflow that runs while a stream of single messages owes any. Its execution is the stream's id."""


class SchedulerStep(StrEnum):
    """Why to look."""

    LOOK = "look"
    """The record changed."""
    DUE = "due"
    """The timer fired that was set for `at`."""
    STREAM = "stream"
    """A worker let go of a stream of single messages."""


class SchedulerMessage(msgspec.Struct, frozen=True):
    """What travels on the queue."""

    step: SchedulerStep
    ref: CampaignRef
    at: int | None = None

    def body(self) -> str:
        """As JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, body: str) -> SchedulerMessage:
        """What `body` wrote; `Invalid`."""
        try:
            return msgspec.json.decode(body, type=cls)
        except msgspec.DecodeError as error:
            raise Invalid(f"not a note to the scheduler: {error}") from error


def notify_changed(queues: Queues, ref: CampaignRef) -> None:
    """Have the scheduler look at a campaign whose record has changed."""
    queues.send(SCHEDULER_QUEUE, [SchedulerMessage(SchedulerStep.LOOK, ref).body()])


def notify_stream_idle(queues: Queues, ref: CampaignRef) -> None:
    """Have the scheduler see whether a stream that is let go of owes anything after all."""
    queues.send(SCHEDULER_QUEUE, [SchedulerMessage(SchedulerStep.STREAM, ref).body()])


def timer_body(ref: CampaignRef, at: Instant) -> str:
    """The body of a campaign's timer."""
    return SchedulerMessage(SchedulerStep.DUE, ref, at).body()


def timer_name(ref: CampaignRef) -> str:
    """The name of a campaign's timer."""
    return f"start-{ref.campaign}"


def start_import(workflows: Workflows, ref: CampaignRef) -> None:
    """Have the workers import the campaign's upload; harmless where they already do."""
    workflows.restart(IMPORT, ref.campaign, ref_input(ref))


def start_send(workflows: Workflows, ref: CampaignRef) -> None:
    """Have the workers send the campaign's batches; harmless where they already do."""
    workflows.restart(SEND, ref.campaign, ref_input(ref))


def start_stream(workflows: Workflows, ref: CampaignRef) -> None:
    """Have the workers send a stream's messages; harmless where they already do."""
    workflows.restart(STREAM, ref.campaign, ref_input(ref))


def ref_input(ref: CampaignRef) -> str:
    """A home as a workflow's input."""
    return msgspec.json.encode(ref).decode()


def parse_ref(text: str) -> CampaignRef:
    """What `ref_input` wrote."""
    return msgspec.json.decode(text, type=CampaignRef)
