"""What a worker does with an import: the handler of the workflow `notes.IMPORT`."""

from __future__ import annotations

import threading

from postroom.errors import Conflict, Permanent
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignStatus
from postroom.platform.ports.workflows import Again, Done, Handler, HandlerCall
from postroom.wiring import Postroom


def importer(postroom: Postroom, stopped: threading.Event) -> Handler:
    """Imports until done, or `stopped` at a checkpoint."""

    def handle(call: HandlerCall) -> Done | Again:
        ref = scheduler_messages.parse_ref(call.execution.input)
        try:
            postroom.splitter.run(ref, alive=lambda: call.alive() and not stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # it would end the same way each time: say so where people look
            campaign = postroom.records.get(ref)
            if campaign.status is CampaignStatus.IMPORTING:
                postroom.records.transition(campaign, CampaignStatus.FAILED, reason=str(error))
            raise
        state = postroom.records.get(ref).status
        if state is CampaignStatus.IMPORTING:  # stopped at a checkpoint: somebody goes on from there
            return Again(postroom.clock.now())
        if state is CampaignStatus.CANCELLED:  # it may have stored rows after those who cancelled had counted
            postroom.campaigns.cancel(ref)
        scheduler_messages.notify_changed(postroom.queues, ref)
        return Done()

    return handle
