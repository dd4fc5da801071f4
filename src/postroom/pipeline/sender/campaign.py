"""A campaign as the cause of a run: wanted while its record says that it is sending, over when the ledger adds up."""

from __future__ import annotations

from postroom.ledger.campaigns import Campaigns
from postroom.ledger.finish import Finish
from postroom.model.campaign import CampaignState, Home
from postroom.pipeline.sender.batch import BatchRun
from postroom.pipeline.sender.means import Means
from postroom.pipeline.sender.run import Reach, Run

CONCURRENT_BATCHES = 6
"""At most."""
_REACH = Reach(usual=2, most=CONCURRENT_BATCHES, idle_s=0.4)


class Campaigning:
    """See run.Cause."""

    def __init__(self, home: Home, campaigns: Campaigns, finish: Finish) -> None:
        self._home = home
        self._campaigns = campaigns
        self._finish = finish

    def wanted(self) -> bool:
        return self._campaigns.get(self._home).state is CampaignState.SENDING

    def over(self, idle_s: float) -> bool:
        return self._finish.finish(self._home)


def campaign_run(means: Means, campaigns: Campaigns, finish: Finish, *, drain_s: float) -> Run:
    """One campaign's."""
    cause = Campaigning(means.home, campaigns, finish)
    return Run(means, cause, _REACH, batch=lambda number: BatchRun(means, number).run(), drain_s=drain_s)
