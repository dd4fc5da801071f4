"""Daily streams: where the transactional messages of one tenant and UTC day are stored and sent from, in batches like a
campaign's.

A stream with due messages must always have a running workflow. So a message is stored and counted first, then its stream is
woken; a worker that finds nothing due sends a message to the scheduler, stops the workflow and checks once more. Whichever of
these steps a crash cuts off, someone checks after the last change: the caller (not answered yet), the worker or the scheduler.
"""

from __future__ import annotations

from postroom.errors import NotFound
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.model.stream import stream_batches
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.workflows import ExecutionStatus, Workflows

_KNOWN = 10_000


class DailyStreams:
    """The daily streams of all tenants."""

    def __init__(self, messages: Messages, workflows: Workflows, queues: Queues) -> None:
        self._messages = messages
        self._workflows = workflows
        self._queues = queues
        self._made: set[CampaignRef] = set()

    def make(self, ref: CampaignRef) -> None:
        """Create the stream's empty batches. Safe and cheap to repeat."""
        if ref in self._made:
            return
        self._messages.create(ref, stream_batches(ref.campaign))
        if len(self._made) >= _KNOWN:
            self._made.clear()
        self._made.add(ref)

    def wake(self, ref: CampaignRef) -> None:
        """Start the stream's workflow. One read if it runs already."""
        execution = self._workflows.get(scheduler_messages.STREAM, ref.campaign)
        if execution is None or execution.status is not ExecutionStatus.RUNNING:
            scheduler_messages.start_stream(self._workflows, ref)

    def look(self, ref: CampaignRef) -> None:
        """Wake the stream if it has messages to send, now or later."""
        if self.owes(ref):
            self.wake(ref)

    def owes(self, ref: CampaignRef) -> bool:
        """Whether the stream has messages to send, now or later."""
        try:
            return self._messages.next_due(ref) is not None
        except NotFound:  # no message was ever stored, or the stream was deleted
            return False

    def end(self, ref: CampaignRef) -> None:
        """Stop the workflow: nothing is due, or the worker cannot go on. Harmless if a message was stored at the same time."""
        scheduler_messages.notify_stream_idle(self._queues, ref)
        self._workflows.stop(scheduler_messages.STREAM, ref.campaign, "nothing is due")
        self.look(ref)
