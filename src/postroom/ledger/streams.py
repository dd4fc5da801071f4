"""Streams of single messages: made at need, watched by the workers while anything is owed, and left alone after that.

Nothing may be owed that nobody watches. A message is stored and counted first, then its stream is woken; a worker that
finds nothing owed leaves a note, stops the stream's workflow, and looks once more. So whatever a kill leaves between two of these
lines, somebody looks after the last change: the caller (whose call is not answered yet), the worker, or whoever gets its note.
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
    """The streams of all tenants."""

    def __init__(self, messages: Messages, workflows: Workflows, queues: Queues) -> None:
        self._messages = messages
        self._workflows = workflows
        self._queues = queues
        self._made: set[CampaignRef] = set()

    def make(self, ref: CampaignRef) -> None:
        """Its batches, empty. Again: harmless, and free."""
        if ref in self._made:
            return
        self._messages.create(ref, stream_batches(ref.campaign))
        if len(self._made) >= _KNOWN:
            self._made.clear()
        self._made.add(ref)

    def wake(self, ref: CampaignRef) -> None:
        """Have the workers look at it; a read where they do already."""
        execution = self._workflows.get(scheduler_messages.STREAM, ref.campaign)
        if execution is None or execution.status is not ExecutionStatus.RUNNING:
            scheduler_messages.start_stream(self._workflows, ref)

    def look(self, ref: CampaignRef) -> None:
        """Wake it if anything is owed."""
        if self.owes(ref):
            self.wake(ref)

    def owes(self, ref: CampaignRef) -> bool:
        """Whether there is work in it, now or ever."""
        try:
            return self._messages.next_due(ref) is not None
        except NotFound:  # nothing was ever stored, or it is deleted
            return False

    def end(self, ref: CampaignRef) -> None:
        """A worker found nothing owed, or cannot go on. Harmless where that has changed in this moment."""
        scheduler_messages.notify_stream_idle(self._queues, ref)
        self._workflows.stop(scheduler_messages.STREAM, ref.campaign, "nothing is owed")
        self.look(ref)
