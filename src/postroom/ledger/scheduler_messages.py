"""Messages to the scheduler, and starting its workflows: how services and the splitter trigger it without depending on it.

A message names a campaign whose record to look at; the record says what is to be done. So messages may be lost, duplicated or
late with no harm but delay, and after a crash between a change and its message, sending the message again is enough.
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
"""The workflow that runs while a campaign is importing. Its execution id, like that of `SEND`, is the campaign's id."""
SEND = "send"
"""The workflow that runs while a campaign is sending."""
STREAM = "stream"
"""The workflow that runs while a daily stream has messages to send. Its execution id is the stream's id."""


class SchedulerStep(StrEnum):
    """Why the scheduler is called."""

    LOOK = "look"
    """The campaign's record changed."""
    DUE = "due"
    """The timer set for `at` fired."""
    STREAM = "stream"
    """A worker stopped sending a daily stream."""


class SchedulerMessage(msgspec.Struct, frozen=True):
    """The body of a queue item."""

    step: SchedulerStep
    ref: CampaignRef
    at: int | None = None

    def body(self) -> str:
        """JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, body: str) -> SchedulerMessage:
        """Parse what `body` wrote. Raises `Invalid`."""
        try:
            return msgspec.json.decode(body, type=cls)
        except msgspec.DecodeError as error:
            raise Invalid(f"not a message to the scheduler: {error}") from error


def notify_changed(queues: Queues, ref: CampaignRef) -> None:
    """Tell the scheduler that a campaign's record changed."""
    queues.send(SCHEDULER_QUEUE, [SchedulerMessage(SchedulerStep.LOOK, ref).body()])


def notify_stream_idle(queues: Queues, ref: CampaignRef) -> None:
    """Tell the scheduler that a worker stopped a stream, so that it checks whether anything is due after all."""
    queues.send(SCHEDULER_QUEUE, [SchedulerMessage(SchedulerStep.STREAM, ref).body()])


def timer_body(ref: CampaignRef, at: Instant) -> str:
    """The body of a campaign's start timer."""
    return SchedulerMessage(SchedulerStep.DUE, ref, at).body()


def timer_name(ref: CampaignRef) -> str:
    """The name of a campaign's start timer."""
    return f"start-{ref.campaign}"


def start_import(workflows: Workflows, ref: CampaignRef) -> None:
    """Start the import of a campaign's upload; harmless if it runs."""
    workflows.restart(IMPORT, ref.campaign, ref_input(ref))


def start_send(workflows: Workflows, ref: CampaignRef) -> None:
    """Start sending a campaign; harmless if it runs."""
    workflows.restart(SEND, ref.campaign, ref_input(ref))


def start_stream(workflows: Workflows, ref: CampaignRef) -> None:
    """Start sending a daily stream; harmless if it runs."""
    workflows.restart(STREAM, ref.campaign, ref_input(ref))


def ref_input(ref: CampaignRef) -> str:
    """A campaign's reference as workflow input."""
    return msgspec.json.encode(ref).decode()


def parse_ref(text: str) -> CampaignRef:
    """Parse what `ref_input` wrote."""
    return msgspec.json.decode(text, type=CampaignRef)
