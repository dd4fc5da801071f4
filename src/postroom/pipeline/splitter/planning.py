"""The first step of a divided import: the upload is read through once, and all that follows is frozen.

Its ranges, the number of batches, the groups of batches, the sizes of chunks: all stand in the plan or in lists that the plan
names, before the first row is stored. Whoever does this step again, or at the same time, follows the plan that was first. A bad
upload is found here, as by an import in one process, with the same words.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.errors import Conflict
from postroom.model.batch import batches_for
from postroom.model.campaign import Campaign, CampaignRef, Import
from postroom.pipeline.splitter.checkpoint import Checkpoints, Division, Plan
from postroom.pipeline.splitter.exchange import Exchange
from postroom.pipeline.splitter.ranges import Range, find_ranges
from postroom.pipeline.splitter.upload import blocks, recognised
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much one call of a function takes on. Why these: docs/reference/aws-limits.md."""

    range_rows: int = 50_000
    range_bytes: int = 16_000_000
    """Of a range of long rows."""
    group_batches: int = 200
    """Batches a group at most: about 100,000 rows."""
    chunk_rows: int = 20_000
    """Rows of a group stored, and lost to a crash, at a time: up to a range's rows more."""
    chunk_bytes: int = 16_000_000
    """Bytes of rows that end a chunk before that."""


SIZES = Sizes()


def groups_for(batches: int, sizes: Sizes = SIZES) -> int:
    """How many groups so many batches make."""
    return -(-batches // sizes.group_batches)


def group_of(batch: int, batches: int, groups: int) -> int:
    """The group that has a batch: a run of neighbours, all groups of one size but for one batch."""
    return batch * groups // batches


def batches_of(group: int, batches: int, groups: int) -> range:
    """The batches of a group."""
    return range(-(-group * batches // groups), -(-(group + 1) * batches // groups))


class Planning:
    """See the module's text."""

    def __init__(self, checkpoints: Checkpoints, messages: Messages, objects: Objects, sizes: Sizes) -> None:
        self._checkpoints = checkpoints
        self._messages = messages
        self._objects = objects
        self._sizes = sizes

    def run(self, campaign: Campaign) -> Division:
        """Freeze the plan, and make the campaign's home; the plan that was frozen before, where there is one. `Invalid`: the
        upload is bad."""
        checkpoint = self._checkpoints.load(campaign.ref)
        if checkpoint is None:
            checkpoint = self._checkpoints.begin(campaign.ref, self._plan(campaign.ref, campaign.source))
        self._messages.create(campaign.ref, checkpoint.plan.batches)
        return division_of(checkpoint.plan, campaign.ref)

    def _plan(self, ref: CampaignRef, source: Import) -> Plan:
        version, layout = recognised(self._objects, source)
        upload = blocks(self._objects, source, version)
        ranges = list(find_ranges(upload, layout, rows=self._sizes.range_rows, size=self._sizes.range_bytes))
        rows = sum(part.rows for part in ranges)
        batches = batches_for(rows)
        return Plan(
            version,
            layout,
            rows,
            batches,
            self._sizes.chunk_rows,
            self._sizes.chunk_bytes,
            self._division(ref, ranges, groups_for(batches, self._sizes)),
        )

    def _division(self, ref: CampaignRef, ranges: list[Range], groups: int) -> Division:
        exchange = Exchange(self._objects, ref)
        return Division(len(ranges), groups, exchange.put_list(ranges), exchange.put_list(list(range(groups))))


def division_of(plan: Plan, ref: CampaignRef) -> Division:
    """`Conflict`: one process does it all."""
    if plan.division is None:
        raise Conflict(f"campaign {ref.campaign} is being imported by one process")
    return plan.division
