"""A group of batches of a divided import: its rows of all ranges are stored, the lowest line wins, and counted.

One owner a group, so no two store the same recipient. The rows come in the order of the upload, in chunks of whole slices, so a
chunk is the same rows whoever gathers them: storing.py says why a crash in one is harmless. After each chunk its part of the
report is put, then the group's mark moves on. Two that are at work on one group do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import Campaign, CampaignStatus
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.checkpoint import Plan, Sums
from postroom.pipeline.splitter.exchange import Exchange
from postroom.pipeline.splitter.marks import Mark, Marks
from postroom.pipeline.splitter.planning import batches_of, division_of
from postroom.pipeline.splitter.storing import Storing
from postroom.pipeline.splitter.workspace import Workspace
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects

_ROW = 64
"""Bytes of a row beside its texts, about."""


class Reducing:
    """One group a call."""

    def __init__(self, campaigns: Campaigns, messages: Messages, objects: Objects, *, storing: Storing, marks: Marks) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects
        self._storing = storing
        self._marks = marks

    def run(self, campaign: Campaign, plan: Plan, group: int, *, alive: Callable[[], bool]) -> bool:
        """Store what is not stored; whether all is, which `alive` may end before. Returns also once the campaign is not
        importing any more. `NotFound`: a range was not read, or the import has ended."""
        ref, division = campaign.ref, division_of(plan, campaign.ref)
        mark = self._marks.load(ref, group)
        while mark.ranges < division.ranges:
            if self._campaigns.get(ref).status is not CampaignStatus.IMPORTING:
                return True
            if not alive():
                return False
            mark = self._store_chunk(campaign, plan, group, mark)
        if not mark.counted:
            self._messages.recount(ref, batches_of(group, plan.batches, division.groups))
            self._marks.save(ref, group, replace(mark, counted=True))
        return True

    def _store_chunk(self, campaign: Campaign, plan: Plan, group: int, mark: Mark) -> Mark:
        ref, chunk = campaign.ref, mark.chunks
        exchange, workspace = Exchange(self._objects, ref), Workspace(self._objects, ref)
        rows, ranges = self._gather(exchange, plan, group, mark.ranges, division_of(plan, ref).ranges)
        stored = self._storing.store(campaign, f"{group:06}-{chunk:06}", rows, workspace)
        exchange.put_rejects(group, chunk, stored.rejects)
        sums = Sums(len(rows), 0, stored.duplicate, stored.suppressed)
        done = Mark(chunk + 1, ranges, mark.sums + sums)
        self._marks.save(ref, group, done)
        return done

    def _gather(self, exchange: Exchange, plan: Plan, group: int, first: int, ranges: int) -> tuple[list[MessageRow], int]:
        """The next chunk's rows, and the range after it."""
        rows: list[MessageRow] = []
        room = plan.chunk_bytes
        for number in range(first, ranges):
            found = exchange.messages_of(number, group)
            rows += found
            room -= sum(len(row.values) + len(row.address) + _ROW for row in found)
            if len(rows) >= plan.chunk or room <= 0:
                return rows, number + 1
        return rows, ranges
