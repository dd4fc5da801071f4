"""A worker's imports: in a thread of their own, because they compute for long and notes and timers must not wait for them."""

from __future__ import annotations

import threading

from postroom.errors import Conflict, Permanent
from postroom.ledger import notes
from postroom.model.campaign import CampaignState, Home
from postroom.platform.ports.workflows import Again, Call, Done
from postroom.wiring import Postroom

_LOOK_S = 0.05


class Importing:
    """Takes imports by lease, one at a time."""

    def __init__(self, postroom: Postroom, owner: str, *, group: str, only: Home | None, stopped: threading.Event) -> None:
        """`group`: the journal under which workers prove that they live."""
        self._postroom = postroom
        self._owner = owner
        self._group = group
        self._only = None if only is None else only.campaign
        self._stopped = stopped
        self._lease_ms = round(postroom.settings.lease * 1000)

    def run(self) -> None:
        """Until stopped. Errors of the stores are raised."""
        while not self._stopped.is_set():
            if not self.once():
                self._stopped.wait(_LOOK_S)

    def once(self) -> bool:
        """Import what is due; whether there was something."""
        return self._postroom.workflows.run_due(
            notes.IMPORT,
            self._import,
            self._owner,
            lease_ms=self._lease_ms,
            dead=self._postroom.journals.dead(self._group),
            only=self._only,
        )

    def _import(self, call: Call) -> Done | Again:
        home = notes.parse_home(call.execution.input)
        try:
            self._postroom.splitter.run(home, alive=lambda: call.alive() and not self._stopped.is_set())
        except Conflict:
            raise
        except Permanent as error:  # it would end the same way each time: say so where people look
            campaign = self._postroom.records.get(home)
            if campaign.state is CampaignState.IMPORTING:
                self._postroom.records.transition(campaign, CampaignState.FAILED, reason=str(error))
            raise
        state = self._postroom.records.get(home).state
        if state is CampaignState.IMPORTING:  # stopped at a checkpoint: somebody goes on from there
            return Again(self._postroom.clock.now())
        if state is CampaignState.CANCELLED:  # it may have stored rows after those who cancelled had counted
            self._postroom.campaigns.cancel(home)
        notes.look(self._postroom.queues, home)
        return Done()
