"""Stores one chunk of rows in the ledger, keeps an import's files, and ends an import.

    1 pin      write down which rows are suppressed, once: the list may change before a crash is repaired
    2 store    insert if absent; the lowest line wins: the result says which rows are duplicates

A chunk that is done again, by any worker, has the same result: it keeps its name and its rows. Files of an import, all below the
campaign's prefix:

    <tenant>/campaigns/<campaign>/import/suppressed/<chunk>   lines of suppressed rows: kept, because a late worker must find them
    <tenant>/campaigns/<campaign>/import/rejected/<chunk>     part of the report: deleted once the report is complete
    <tenant>/campaigns/<campaign>/rejected.csv                the report: UTF-8, columns line, address, reason, detail
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, adds_up
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.checkpoint import ImportTotals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.cells import guarded
from postroom.recipients_file.rows import DUPLICATE, SHOWN, SUPPRESSED, Reject

HEADER = b"line,address,reason,detail\r\n"
_ON_LIST = "The address is on the suppression list."
_BY_KEY = itemgetter(1)
_TRIES = 10


def report_rows(rejects: Iterable[Reject]) -> bytes:
    """The rejects as CSV rows in the order of their lines, without the header."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        (reject.line, _harmless(reject.address), reject.reason, reject.detail) for reject in sorted(rejects)
    )
    return text.getvalue().encode("utf-8", "replace")


def _harmless(cell: str) -> str:
    """The cell on one line, and not a formula when a spreadsheet opens the report."""
    return guarded("".join(character if character.isprintable() else " " for character in cell[:SHOWN]))


class ImportFiles:
    """The files of one campaign's import."""

    def __init__(self, objects: Objects, ref: CampaignRef) -> None:
        self._objects = objects
        self._prefix = f"{ref.tenant}/campaigns/{ref.campaign}"

    def pin_suppressed(self, chunk: str, lines: list[int]) -> list[int]:
        """Write down which rows of the chunk are suppressed. If they were written before, those are returned."""
        key = f"{self._prefix}/import/suppressed/{chunk}"
        try:
            self._objects.put(key, orjson.dumps(lines), content_type="application/json", if_absent=True)
        except Conflict:
            pinned: list[int] = orjson.loads(self._objects.get(key))
            return pinned
        return lines

    def put_rejects(self, chunk: int, rejects: list[Reject]) -> None:
        """Store the chunk's part of the report."""
        if rejects:
            self._objects.put(f"{self._parts}{chunk:08}", report_rows(rejects), content_type="text/csv")

    def assemble_report(self, parts: Iterable[bytes] | None = None) -> str:
        """Make the report of all chunks in order, or of `parts`, as one object, and return its key. Made once: a late worker
        finds no parts any more."""
        key = f"{self._prefix}/rejected.csv"
        if self._objects.info(key) is None:
            content = chain([HEADER], self._chunks() if parts is None else parts)
            with suppress(Conflict):  # another worker made it from the same parts
                self._objects.put(key, content, content_type="text/csv; charset=utf-8", if_absent=True)
        return key

    def sweep(self) -> None:
        """Delete the parts of the report."""
        self._objects.purge(self._parts)

    @property
    def _parts(self) -> str:
        return f"{self._prefix}/import/rejected/"

    def _chunks(self) -> Iterator[bytes]:
        cursor: str | None = None
        while True:
            page = self._objects.list(self._parts, cursor=cursor, limit=1_000)
            for part in page.objects:
                yield self._objects.get(part.key)
            cursor = page.cursor
            if cursor is None:
                return


class StoredChunk(NamedTuple):
    """The rejected rows of a chunk."""

    rejects: list[Reject]
    """Suppressed rows, then duplicates."""
    suppressed: int

    @property
    def duplicate(self) -> int:
        """How many rows are duplicates."""
        return len(self.rejects) - self.suppressed


class ChunkStore:
    """Stores chunks of rows."""

    def __init__(self, messages: Messages, suppression: SuppressionList, clock: Clock, *, spread: bool = False) -> None:
        """`spread`: store in the order of keys, which spreads a chunk over all of its batches, because a partition of DynamoDB
        takes 1,000 writes a second. Default: batch by batch, which makes SQLite's inserts nearly sequential."""
        self._messages = messages
        self._suppression = suppression
        self._clock = clock
        self._order = _BY_KEY if spread else None

    def store(self, campaign: Campaign, name: str, rows: Sequence[MessageRow], files: ImportFiles) -> StoredChunk:
        """Store the rows of the chunk of that name."""
        ref, topic = campaign.ref, campaign.spec.content.topic
        on_list = self._suppression.suppressed(ref.tenant, [message.key for message in rows], topic=topic)
        found = [message.line for message in rows if message.key in on_list] if on_list else []
        pinned = set(files.pin_suppressed(name, found))
        kept = [message for message in rows if message.line not in pinned] if pinned else rows
        kept = sorted(kept, key=self._order)
        winners = self._messages.store(ref, kept, self._clock.now())
        rejects = [Reject(m.line, m.address, SUPPRESSED, _ON_LIST) for m in rows if m.line in pinned] if pinned else []
        suppressed = len(rejects)
        rejects += [
            Reject(m.line, m.address, DUPLICATE, f"The same recipient as in line {winner}.")
            for m, winner in zip(kept, winners, strict=True)
            if winner != m.line
        ]
        return StoredChunk(rejects, suppressed)


class ImportCompletion:
    """Ends an import: `ready` once every row is accounted for, `failed` with the reason."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def ready(self, ref: CampaignRef, batches: int, sums: ImportTotals, report: str | None) -> None:
        """Check that the totals agree with the ledger, then set `ready`. The batches must be counted before. Raises `Corrupt` if
        the totals do not add up."""
        result = replace(
            self._campaigns.get(ref).source,
            batches=batches,
            rows=sums.rows,
            invalid=sums.invalid,
            duplicate=sums.duplicate,
            suppressed=sums.suppressed,
            rejected_key=report,
        )
        counts = self._messages.counts(ref)
        if not adds_up(result, counts):
            raise Corrupt(f"The import does not add up: {sums} leave {sums.accepted} messages, the ledger holds {counts.total}.")
        self._move(ref, CampaignStatus.READY, source=result)

    def failed(self, ref: CampaignRef, reason: str) -> None:
        """Set `failed` with the reason."""
        self._move(ref, CampaignStatus.FAILED, reason=reason)

    def _move(self, ref: CampaignRef, to: CampaignStatus, **fields: Any) -> None:
        """Change the status, unless the import was ended meanwhile (cancelled, for example)."""
        for _ in range(_TRIES):
            campaign = self._campaigns.get(ref)
            if campaign.status is not CampaignStatus.IMPORTING:
                return
            try:
                self._campaigns.transition(campaign, to, **fields)
            except Conflict:  # changed since it was read: look again
                continue
            return
        raise Conflict(f"campaign {ref.campaign} is being changed by others; try again")
