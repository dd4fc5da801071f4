"""The import in steps that many functions take at once, where no process lives long enough; the result is the same, row for row.

    plan     read it all once: ranges, batches, groups of batches, all frozen           planning.py
    read     a range: its rows checked, in one slice for each group                     reading.py, all ranges at once
    store    a group: its slices of all ranges in order, stored, pinned, reported       reducing.py, all groups at once
    finish   add up, merge the report, ready                                            finishing.py

Steps hand each other references alone: what they say stands in objects (exchange.py) and marks (marks.py). Each may be killed
anywhere, done again, or be under way twice. Where the campaign is no longer importing a step ends quietly. `finish` comes last,
however the import ends, and it alone sweeps: who reads an upload's rows need not be able to delete anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from postroom.clock import Clock
from postroom.errors import Corrupt, Invalid, NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.pipeline.splitter.checkpoint import Checkpoints, Division, Plan
from postroom.pipeline.splitter.ending import Ending
from postroom.pipeline.splitter.exchange import Exchange
from postroom.pipeline.splitter.finishing import Finishing
from postroom.pipeline.splitter.marks import Marks
from postroom.pipeline.splitter.planning import SIZES, Planning, Sizes
from postroom.pipeline.splitter.ranges import Range
from postroom.pipeline.splitter.reading import Reading
from postroom.pipeline.splitter.reducing import Reducing
from postroom.pipeline.splitter.storing import Storing
from postroom.pipeline.splitter.workspace import Workspace
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables

T = TypeVar("T")


class ParallelImport:
    """Every step for one campaign: see the module's text.

    Each answers None once the campaign is not importing any more, also where its upload turns out to be bad and it fails with the
    reason. `Conflict` and temporary errors: take the step again. `Corrupt`: the campaign has failed with the reason.
    """

    def __init__(
        self,
        *,
        campaigns: Campaigns,
        messages: Messages,
        objects: Objects,
        suppression: SuppressionList,
        tables: Tables,
        tenants: Tenants,
        clock: Clock,
        sizes: Sizes = SIZES,
    ) -> None:
        self._campaigns = campaigns
        self._objects = objects
        self._checkpoints = Checkpoints(tables)
        self._marks = Marks(tables, clock)
        self._ending = Ending(campaigns, messages)
        self._planning = Planning(self._checkpoints, messages, objects, sizes)
        self._reading = Reading(objects, tenants)
        storing = Storing(messages, suppression, clock, spread=True)
        self._reducing = Reducing(campaigns, messages, objects, storing=storing, marks=self._marks)
        self._finishing = Finishing(objects, self._ending, self._marks)

    def plan(self, ref: CampaignRef) -> Division | None:
        """How it is divided; the lists it names are what `read` and `store` are to be called with."""
        return self._step(ref, self._planning.run)

    def read(self, ref: CampaignRef, part: Range) -> bool | None:
        """One of the list of ranges."""

        def work(campaign: Campaign) -> bool:
            self._reading.run(campaign, self._plan_of(ref), part)
            return True

        return self._step(ref, work)

    def store(self, ref: CampaignRef, group: int, *, alive: Callable[[], bool]) -> bool | None:
        """One of the list of groups; False: `alive`, asked between chunks, ended it before it was done."""
        return self._step(ref, lambda campaign: self._reducing.run(campaign, self._plan_of(ref), group, alive=alive))

    def finish(self, ref: CampaignRef) -> None:
        """Make it `ready`; then, and where somebody else ended it, sweep. The last step of every import."""
        self._step(ref, lambda campaign: self._finishing.run(ref, self._plan_of(ref)))
        if self._importing(ref) is None:
            self._sweep(ref)

    def fail(self, ref: CampaignRef, reason: str) -> None:
        """Steps were tried again often enough. `finish` comes after it."""

        def work(campaign: Campaign) -> None:
            self._ending.failed(ref, reason)

        self._step(ref, work)

    def _step(self, ref: CampaignRef, work: Callable[[Campaign], T]) -> T | None:
        answer: T | None = None
        campaign = self._importing(ref)
        if campaign is not None:
            try:
                answer = work(campaign)
            except NotFound:  # it is, or the import has ended meanwhile and was swept
                if self._importing(ref) is not None:
                    raise
            except Invalid as error:
                self._ending.failed(ref, str(error))
            except Corrupt as error:
                self._ending.failed(ref, str(error))
                raise
        return answer if self._importing(ref) is not None else None

    def _importing(self, ref: CampaignRef) -> Campaign | None:
        try:
            campaign = self._campaigns.get(ref)
        except NotFound:  # deleted
            return None
        return campaign if campaign.status is CampaignStatus.IMPORTING else None

    def _plan_of(self, ref: CampaignRef) -> Plan:
        checkpoint = self._checkpoints.load(ref)
        if checkpoint is None:
            raise NotFound(f"the import of campaign {ref.campaign} has no plan")
        return checkpoint.plan

    def _sweep(self, ref: CampaignRef) -> None:
        Exchange(self._objects, ref).sweep()
        Workspace(self._objects, ref).sweep()
        self._marks.forget(ref)
        self._checkpoints.forget(ref)
