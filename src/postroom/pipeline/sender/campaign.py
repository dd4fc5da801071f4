"""A campaign as the cause of a run: wanted while its record says that it is sending and its provider is what it was, over when
the ledger adds up."""

from __future__ import annotations

from collections.abc import Callable

from postroom.ledger.campaigns import CampaignCompletion, Campaigns
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.pipeline.sender.batch import BatchRun
from postroom.pipeline.sender.given import GivenBatches
from postroom.pipeline.sender.means import Means
from postroom.pipeline.sender.run import Reach, Run

CONCURRENT_BATCHES = 6
"""At most."""
_REACH = Reach(usual=2, most=CONCURRENT_BATCHES, idle_s=0.4)


class Campaigning:
    """See run.Cause."""

    def __init__(self, ref: CampaignRef, campaigns: Campaigns, finish: CampaignCompletion, unchanged: Callable[[], bool]) -> None:
        """`unchanged`: whether mail still leaves as it did when the run began; else it is to begin anew."""
        self._ref = ref
        self._campaigns = campaigns
        self._finish = finish
        self._unchanged = unchanged

    def wanted(self) -> bool:
        return self._campaigns.get(self._ref).status is CampaignStatus.SENDING and self._unchanged()

    def over(self, idle_s: float) -> bool:
        return self._finish.finish(self._ref)


class Portion(Campaigning):
    """A part of a campaign: over when each of its batches was begun. Whether the campaign is, others ask."""

    def __init__(
        self,
        ref: CampaignRef,
        campaigns: Campaigns,
        finish: CampaignCompletion,
        unchanged: Callable[[], bool],
        *,
        given: GivenBatches,
    ) -> None:
        super().__init__(ref, campaigns, finish, unchanged)
        self._given = given

    def over(self, idle_s: float) -> bool:
        return not self._given.left


def campaign_run(
    means: Means,
    campaigns: Campaigns,
    finish: CampaignCompletion,
    *,
    drain_s: float,
    unchanged: Callable[[], bool] = lambda: True,
    given: GivenBatches | None = None,
) -> Run:
    """One campaign's; `given`: of those batches alone."""
    cause = (
        Campaigning(means.ref, campaigns, finish, unchanged)
        if given is None
        else Portion(means.ref, campaigns, finish, unchanged, given=given)
    )
    return Run(means, cause, _REACH, batch=lambda number: BatchRun(means, number).run(), drain_s=drain_s, source=given)
