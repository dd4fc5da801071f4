"""A range of a divided import: its rows are read and checked, and stored in slices, one for each group of batches."""

from __future__ import annotations

from functools import partial

from postroom.errors import Corrupt
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign
from postroom.model.ids import key_maker
from postroom.pipeline.splitter.checkpoint import Plan
from postroom.pipeline.splitter.exchange import Exchange
from postroom.pipeline.splitter.planning import division_of, group_of
from postroom.pipeline.splitter.ranges import Range, records_of
from postroom.pipeline.splitter.slices import pack
from postroom.pipeline.splitter.upload import part
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.rows import read_rows


class Reading:
    """One range a call. What a crash leaves is nothing, or all of it."""

    def __init__(self, objects: Objects, tenants: Tenants) -> None:
        self._objects = objects
        self._tenants = tenants

    def run(self, campaign: Campaign, plan: Plan, wanted: Range) -> None:
        """Read it, unless it was read. `Invalid`: the upload is gone. `Corrupt`: it is not what was planned."""
        ref, source = campaign.ref, campaign.source
        exchange = Exchange(self._objects, ref)
        if exchange.has_range(wanted.number):
            return
        groups = division_of(plan, ref).groups
        content = part(self._objects, source, plan.version, start=wanted.start, end=wanted.end)
        key_of = key_maker(self._tenants.get(ref.tenant).secret)
        rows = read_rows(records_of(content, wanted, plan.layout), plan.layout, key_of, batches=plan.batches)
        read = len(rows.messages) + len(rows.rejects)
        if read != wanted.rows:
            raise Corrupt(f"{source.filename} has {read} rows from line {wanted.line} on, not {wanted.rows} as was planned.")
        exchange.put_range(wanted.number, pack(rows, partial(group_of, batches=plan.batches, groups=groups), groups))
