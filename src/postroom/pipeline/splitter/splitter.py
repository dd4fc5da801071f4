"""The import in one process: every row of an upload becomes a message or a line of the report, whatever crashes in between.

    plan    read it all once: encoding, layout, sizes and quotes are checked, rows counted, the number of batches frozen
    chunks  of 50,000 rows each, or as many as fill 16 MB with values, in order:
            1 pin      write down which rows are suppressed, once: the list may change before a crash is repaired
            2 store    insert if absent, the lowest line wins: the result says which rows are duplicates
            3 report   the chunk's rejected rows, one object
            4 mark     the checkpoint: the chunk is done
    finish  recount, add up, assemble the report, ready

What a crash leaves between any two lines: a chunk that is done again from its first step, with the same result, since the
rows of a chunk, its suppressed rows and the winner of each address do not depend on when or by which process they are computed.
So two splitters at work on one campaign (a lease ran out) do no harm either. A bad upload fails the campaign with the reason
before any row is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from itertools import islice

from postroom.clock import Clock
from postroom.errors import Corrupt, Invalid
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.batch import batches_for
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Import
from postroom.model.ids import key_maker
from postroom.pipeline.splitter.checkpoint import Checkpoint, Checkpoints, ImportTotals, Plan
from postroom.pipeline.splitter.plan import read_upload, recognise_upload
from postroom.pipeline.splitter.store import ChunkStore, ImportCompletion, ImportFiles
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables
from postroom.recipients_file.encoding import decode
from postroom.recipients_file.layout import Layout
from postroom.recipients_file.records import Record, read_records
from postroom.recipients_file.rows import Rows, read_rows

CHUNK = 50_000
"""Rows stored at a time, and repeated after a crash. Sorted by batch and key, so many make SQLite's inserts nearly sequential."""
CHUNK_BYTES = 16_000_000
"""Bytes of values that end a chunk early: ordinary rows take less, and a gigabyte of long rows must not be in memory at once."""


class Splitter:
    """Imports campaigns."""

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
        chunk: int = CHUNK,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects
        self._tenants = tenants
        self._chunk_store = ChunkStore(messages, suppression, clock)
        self._ending = ImportCompletion(campaigns, messages)
        self._checkpoints = Checkpoints(tables)
        self._chunk = chunk
        self._chunk_bytes = chunk_bytes

    def run(self, ref: CampaignRef, *, alive: Callable[[], bool]) -> None:
        """Import the upload of a campaign that is `importing`, until it is `ready`, or `failed` with the reason.

        If `alive` returns False or the campaign is cancelled, it returns within a chunk; another run continues from there. A
        campaign past importing is left alone. Raises `Corrupt` if the ledger does not add up.
        """
        campaign = self._campaigns.get(ref)
        if campaign.status is CampaignStatus.IMPORTING:
            try:
                self._import(campaign, alive)
            except Invalid as error:
                self._ending.failed(ref, str(error))
            except Corrupt as error:
                self._ending.failed(ref, str(error))
                raise
            campaign = self._campaigns.get(ref)
        if campaign.status is not CampaignStatus.IMPORTING:
            ImportFiles(self._objects, ref).sweep()
            self._checkpoints.forget(ref)

    def _import(self, campaign: Campaign, alive: Callable[[], bool]) -> None:
        checkpoint = self._checkpoints.load(campaign.ref)
        if checkpoint is None:
            plan = self._plan(campaign, alive)
            if plan is None:
                return
            checkpoint = self._checkpoints.begin(campaign.ref, plan)
        self._messages.create(campaign.ref, checkpoint.plan.batches)
        done = self._store(campaign, checkpoint, alive)
        if done is not None:
            self._finish(campaign.ref, done)

    def _plan(self, campaign: Campaign, alive: Callable[[], bool]) -> Plan | None:
        """Read the whole upload without storing anything. None: `alive` ended it."""
        source = campaign.source
        version, layout = recognise_upload(self._objects, campaign.spec, source)
        rows = 0
        with closing(self._records(source, version, layout)) as records:
            while step := sum(1 for _ in islice(records, self._chunk)):
                rows += step
                if not alive():
                    return None
        return Plan(version, layout, rows, batches_for(rows), self._chunk, self._chunk_bytes)

    def _records(self, source: Import, version: str, layout: Layout) -> Generator[Record, None, None]:
        """The rows of the upload."""
        texts = decode(read_upload(self._objects, source, version), layout.encoding)
        yield from islice(read_records(texts, layout.delimiter), layout.skip, None)

    def _store(self, campaign: Campaign, checkpoint: Checkpoint, alive: Callable[[], bool]) -> Checkpoint | None:
        """Store every chunk that is not done. Returns the last checkpoint, or None if the import was ended before."""
        ref, plan = campaign.ref, checkpoint.plan
        key_of = key_maker(self._tenants.get(ref.tenant).secret)
        with closing(self._records(campaign.source, plan.version, plan.layout)) as records:
            for _ in islice(records, checkpoint.sums.rows):
                pass
            while checkpoint.sums.rows < plan.rows:
                if not alive() or self._campaigns.get(ref).status is not CampaignStatus.IMPORTING:
                    return None
                part = islice(records, plan.chunk)
                rows = read_rows(part, plan.layout, key_of, batches=plan.batches, values_bytes=plan.chunk_bytes)
                sums = self._store_chunk(campaign, checkpoint.chunks, rows)
                if sums.rows == 0:
                    raise Corrupt(f"{campaign.source.filename} ends after {checkpoint.sums.rows} of {plan.rows} rows.")
                checkpoint = replace(checkpoint, chunks=checkpoint.chunks + 1, sums=checkpoint.sums + sums)
                if not self._checkpoints.save(ref, checkpoint):
                    return None
        return checkpoint

    def _store_chunk(self, campaign: Campaign, number: int, rows: Rows) -> ImportTotals:
        files = ImportFiles(self._objects, campaign.ref)
        stored = self._chunk_store.store(campaign, f"{number:08}", rows.messages, files)
        files.put_rejects(number, [*rows.rejects, *stored.rejects])
        return ImportTotals(len(rows.messages) + len(rows.rejects), len(rows.rejects), stored.duplicate, stored.suppressed)

    def _finish(self, ref: CampaignRef, done: Checkpoint) -> None:
        """Recount, add up, set `ready`."""
        self._messages.recount(ref)
        sums = done.sums
        report = ImportFiles(self._objects, ref).assemble_report() if sums.accepted < sums.rows else None
        self._ending.ready(ref, done.plan.batches, sums, report)
