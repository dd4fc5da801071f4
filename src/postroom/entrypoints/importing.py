"""What a worker does with an import: the handler of the workflow `notes.IMPORT`."""

from __future__ import annotations

import threading

from postroom.errors import Conflict, Permanent
from postroom.ledger import notes
from postroom.model.campaign import CampaignState
from postroom.platform.ports.workflows import Again, Call, Done, Handler
from postroom.wiring import Postroom


def importer(postroom: Postroom, stopped: threading.Event) -> Handler:
    """Imports until done, or `stopped` at a checkpoint."""

    def handle(call: Call) -> Done | Again:
        home = notes.parse_home(call.execution.input)
        try:
            postroom.splitter.run(home, alive=lambda: call.alive() and not stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # it would end the same way each time: say so where people look
            campaign = postroom.records.get(home)
            if campaign.state is CampaignState.IMPORTING:
                postroom.records.transition(campaign, CampaignState.FAILED, reason=str(error))
            raise
        state = postroom.records.get(home).state
        if state is CampaignState.IMPORTING:  # stopped at a checkpoint: somebody goes on from there
            return Again(postroom.clock.now())
        if state is CampaignState.CANCELLED:  # it may have stored rows after those who cancelled had counted
            postroom.campaigns.cancel(home)
        notes.look(postroom.queues, home)
        return Done()

    return handle
