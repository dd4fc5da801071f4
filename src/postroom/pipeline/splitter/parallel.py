"""The import in steps that many functions take at once, for AWS, where no process lives long enough. The result is the same, row
for row, as of an import in one process.

    plan     read it all once; freeze ranges, batches and groups of batches (plan.py)
    read     one range: check its rows, store them in one slice per group; all ranges at once
    store    one group: its slices of all ranges in order are stored, pinned, reported; all groups at once
    finish   add up, merge the report, `ready`

Steps hand each other references only: their data is in objects (exchange.py) and group checkpoints. Each step may be killed
anywhere, done again, or run twice at the same time. If the campaign is not importing any more, a step ends quietly. `finish`
comes last however the import ends, and only it deletes: the functions that read an upload need no permission to delete.

A crash in `read` leaves nothing or the whole range. In `store`, one function owns a group, so no two store the same recipient.
Rows come in the order of the upload, in chunks of whole slices, so a chunk has the same rows whichever function gathers them
(store.py says why a crash in a chunk is harmless). After each chunk its part of the report is stored, then the group's
checkpoint. Two functions that store one group do the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.model.ids import key_maker
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.checkpoint import Checkpoints, Division, GroupCheckpoints, GroupProgress, ImportTotals, Plan
from postroom.pipeline.splitter.exchange import Exchange, pack_range
from postroom.pipeline.splitter.plan import (
    SIZES,
    ImportSizes,
    PlanStep,
    UploadRange,
    batches_of,
    division_of,
    group_of,
    range_records,
    read_upload_part,
)
from postroom.pipeline.splitter.store import ChunkStore, ImportCompletion, ImportFiles, report_rows
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables
from postroom.recipients_file.rows import Reject, read_rows

_ROW = 64
"""About how many bytes a row takes besides its texts."""
_AT_ONCE = 1_000
T = TypeVar("T")


class ReadStep:
    """Reads one range per call."""

    def __init__(self, objects: Objects, tenants: Tenants) -> None:
        self._objects = objects
        self._tenants = tenants

    def run(self, campaign: Campaign, plan: Plan, wanted: UploadRange) -> None:
        """Read the range, unless it was read. Raises `Invalid` if the upload is gone, `Corrupt` if it differs from the plan."""
        ref, source = campaign.ref, campaign.source
        exchange = Exchange(self._objects, ref)
        if exchange.has_range(wanted.number):
            return
        groups = division_of(plan, ref).groups
        content = read_upload_part(self._objects, source, plan.version, start=wanted.start, end=wanted.end)
        key_of = key_maker(self._tenants.get(ref.tenant).secret)
        rows = read_rows(range_records(content, wanted, plan.layout), plan.layout, key_of, batches=plan.batches)
        read = len(rows.messages) + len(rows.rejects)
        if read != wanted.rows:
            raise Corrupt(f"{source.filename} has {read} rows from line {wanted.line} on, not {wanted.rows} as was planned.")
        exchange.put_range(wanted.number, pack_range(rows, partial(group_of, batches=plan.batches, groups=groups), groups))


class StoreStep:
    """Stores one group per call."""

    def __init__(
        self, campaigns: Campaigns, messages: Messages, objects: Objects, *, chunks: ChunkStore, marks: GroupCheckpoints
    ) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects
        self._chunks = chunks
        self._marks = marks

    def run(self, campaign: Campaign, plan: Plan, group: int, *, alive: Callable[[], bool]) -> bool:
        """Store the chunks that are not stored. Returns False if `alive`, asked between chunks, ended it early; True if all are
        stored, or the campaign is not importing any more. Raises `NotFound` if a range was not read or the import has ended."""
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

    def _store_chunk(self, campaign: Campaign, plan: Plan, group: int, mark: GroupProgress) -> GroupProgress:
        ref, chunk = campaign.ref, mark.chunks
        exchange, files = Exchange(self._objects, ref), ImportFiles(self._objects, ref)
        rows, ranges = self._gather(exchange, plan, group, mark.ranges, division_of(plan, ref).ranges)
        stored = self._chunks.store(campaign, f"{group:06}-{chunk:06}", rows, files)
        exchange.put_rejects(group, chunk, stored.rejects)
        sums = ImportTotals(len(rows), 0, stored.duplicate, stored.suppressed)
        done = GroupProgress(chunk + 1, ranges, mark.sums + sums)
        self._marks.save(ref, group, done)
        return done

    def _gather(self, exchange: Exchange, plan: Plan, group: int, first: int, ranges: int) -> tuple[list[MessageRow], int]:
        """The rows of the next chunk, and the number of the range after it."""
        rows: list[MessageRow] = []
        room = plan.chunk_bytes
        for number in range(first, ranges):
            found = exchange.messages_of(number, group)
            rows += found
            room -= sum(len(row.values) + len(row.address) + _ROW for row in found)
            if len(rows) >= plan.chunk or room <= 0:
                return rows, number + 1
        return rows, ranges


class FinishStep:
    """Ends the import. Safe to repeat and to run twice at once: nothing it reads changes any more."""

    def __init__(self, objects: Objects, ending: ImportCompletion, marks: GroupCheckpoints) -> None:
        self._objects = objects
        self._ending = ending
        self._marks = marks

    def run(self, ref: CampaignRef, plan: Plan) -> None:
        """Set `ready`. Raises `Conflict` if a group is not stored yet, `NotFound` if a range was not read or the import has
        ended, `Corrupt` if the totals do not add up."""
        division, exchange = division_of(plan, ref), Exchange(self._objects, ref)
        marks = self._marks.all(ref)
        if len(marks) != division.groups or not all(mark.counted for mark in marks):
            raise Conflict(f"campaign {ref.campaign}: not every group of batches is stored yet")
        heads = [exchange.head_of(number) for number in range(division.ranges)]
        read = sum((ImportTotals(head.rows, head.invalid) for head in heads), ImportTotals())
        stored = sum((mark.sums for mark in marks), ImportTotals())
        sums = ImportTotals(read.rows, read.invalid, stored.duplicate, stored.suppressed)
        report = None
        if sums.accepted < sums.rows:
            report = ImportFiles(self._objects, ref).assemble_report(_report(exchange, division.ranges, marks))
        self._ending.ready(ref, plan.batches, sums, report)


def _report(exchange: Exchange, ranges: int, marks: list[GroupProgress]) -> Iterator[bytes]:
    """All parts merged by line. In memory: one range's invalid rows, and a block of each group's part."""
    invalid = chain.from_iterable(exchange.rejects_of_range(number) for number in range(ranges))
    others = [exchange.rejects_of_group(group, mark.chunks) for group, mark in enumerate(marks)]
    rejects: Iterator[Reject] = heapq.merge(invalid, *others)
    while some := list(islice(rejects, _AT_ONCE)):
        yield report_rows(some)


class ParallelImport:
    """The steps of a parallel import.

    Each returns None if the campaign is not importing any more, also if its upload is bad and it has failed with the reason.
    `Conflict` and temporary errors: repeat the step. `Corrupt`: the campaign has failed with the reason.
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
        sizes: ImportSizes = SIZES,
    ) -> None:
        self._campaigns = campaigns
        self._objects = objects
        self._checkpoints = Checkpoints(tables)
        self._marks = GroupCheckpoints(tables, clock)
        self._ending = ImportCompletion(campaigns, messages)
        self._planning = PlanStep(self._checkpoints, messages, objects, sizes)
        self._reading = ReadStep(objects, tenants)
        chunks = ChunkStore(messages, suppression, clock, spread=True)
        self._reducing = StoreStep(campaigns, messages, objects, chunks=chunks, marks=self._marks)
        self._finishing = FinishStep(objects, self._ending, self._marks)

    def plan(self, ref: CampaignRef) -> Division | None:
        """Plan the import. Call `read` and `store` with each item of the lists that the result names."""
        return self._step(ref, self._planning.run)

    def read(self, ref: CampaignRef, part: UploadRange) -> bool | None:
        """Read one range."""

        def work(campaign: Campaign) -> bool:
            self._reading.run(campaign, self._plan_of(ref), part)
            return True

        return self._step(ref, work)

    def store(self, ref: CampaignRef, group: int, *, alive: Callable[[], bool]) -> bool | None:
        """Store one group. Returns False if `alive`, asked between chunks, ended it before it was done."""
        return self._step(ref, lambda campaign: self._reducing.run(campaign, self._plan_of(ref), group, alive=alive))

    def finish(self, ref: CampaignRef) -> None:
        """Set `ready`, then delete the import's temporary objects; only the latter if the import has ended otherwise. The last
        step."""
        self._step(ref, lambda campaign: self._finishing.run(ref, self._plan_of(ref)))
        if self._importing(ref) is None:
            self._sweep(ref)

    def fail(self, ref: CampaignRef, reason: str) -> None:
        """Set `failed`: steps were repeated often enough. Call `finish` afterwards."""

        def work(campaign: Campaign) -> None:
            self._ending.failed(ref, reason)

        self._step(ref, work)

    def _step(self, ref: CampaignRef, work: Callable[[Campaign], T]) -> T | None:
        answer: T | None = None
        campaign = self._importing(ref)
        if campaign is not None:
            try:
                answer = work(campaign)
            except NotFound:  # the campaign is gone, or the import ended meanwhile and its objects were deleted
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
        ImportFiles(self._objects, ref).sweep()
        self._marks.forget(ref)
        self._checkpoints.forget(ref)
