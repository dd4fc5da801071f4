"""The last step of a divided import: all sums together, the report of all parts in the order of lines, `ready`."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, islice

from postroom.errors import Conflict
from postroom.model.campaign import CampaignRef
from postroom.pipeline.splitter.checkpoint import Plan, Sums
from postroom.pipeline.splitter.ending import Ending
from postroom.pipeline.splitter.exchange import Exchange
from postroom.pipeline.splitter.marks import Mark, Marks
from postroom.pipeline.splitter.planning import division_of
from postroom.pipeline.splitter.report import report_rows
from postroom.pipeline.splitter.workspace import Workspace
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.rows import Reject

_AT_ONCE = 1_000


class Finishing:
    """Safe to repeat, and to do twice at the same time: everything that it reads stands still."""

    def __init__(self, objects: Objects, ending: Ending, marks: Marks) -> None:
        self._objects = objects
        self._ending = ending
        self._marks = marks

    def run(self, ref: CampaignRef, plan: Plan) -> None:
        """`ready`. `Conflict`: a group is not stored yet. `NotFound`: a range was not read, or the import has ended.
        `Corrupt`: it does not add up."""
        division, exchange = division_of(plan, ref), Exchange(self._objects, ref)
        marks = self._marks.all(ref)
        if len(marks) != division.groups or not all(mark.counted for mark in marks):
            raise Conflict(f"campaign {ref.campaign}: not every group of batches is stored yet")
        heads = [exchange.head_of(number) for number in range(division.ranges)]
        read = sum((Sums(head.rows, head.invalid) for head in heads), Sums())
        stored = sum((mark.sums for mark in marks), Sums())
        sums = Sums(read.rows, read.invalid, stored.duplicate, stored.suppressed)
        report = None
        if sums.accepted < sums.rows:
            report = Workspace(self._objects, ref).assemble_report(_report(exchange, division.ranges, marks))
        self._ending.ready(ref, plan.batches, sums, report)


def _report(exchange: Exchange, ranges: int, marks: list[Mark]) -> Iterator[bytes]:
    """All parts, merged by line. One range's invalid rows are in memory, and a block of each group's."""
    invalid = chain.from_iterable(exchange.rejects_of_range(number) for number in range(ranges))
    others = [exchange.rejects_of_group(group, mark.chunks) for group, mark in enumerate(marks)]
    rejects: Iterator[Reject] = heapq.merge(invalid, *others)
    while some := list(islice(rejects, _AT_ONCE)):
        yield report_rows(some)
