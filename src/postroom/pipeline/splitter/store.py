"""The report of rejected rows: CSV in UTF-8 with the columns line, address, reason, detail.

What an import keeps in the object store, all of it below the campaign's own prefix.

<tenant>/campaigns/<campaign>/import/suppressed/<chunk>   lines of suppressed rows: kept, a late worker must find them
<tenant>/campaigns/<campaign>/import/rejected/<chunk>     part of the report: gone once that is whole
<tenant>/campaigns/<campaign>/rejected.csv                the report

A chunk of rows into the ledger: who is on the suppression list is pinned, the others are stored, the lowest line wins.

    1 pin      which rows are suppressed is written down, once: the list may change before a crash is mended
    2 store    insert-if-absent: the answer says which rows are duplicates

Done again, by whomever, a chunk comes to the same: it keeps its name, and the rows that its name stands for.

How an import ends: `ready` once every row is accounted for, `failed` with the reason, or as somebody else ended it.
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


def report_rows(rejects: Iterable[Reject]) -> bytes:
    """The rejects as rows of the report, in the order of their lines; without the header."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        (reject.line, _harmless(reject.address), reject.reason, reject.detail) for reject in sorted(rejects)
    )
    return text.getvalue().encode("utf-8", "replace")


def _harmless(cell: str) -> str:
    """The cell on one line, and no formula where a spreadsheet opens the report."""
    return guarded("".join(character if character.isprintable() else " " for character in cell[:SHOWN]))


class ImportFiles:
    """One campaign's."""

    def __init__(self, objects: Objects, ref: CampaignRef) -> None:
        self._objects = objects
        self._prefix = f"{ref.tenant}/campaigns/{ref.campaign}"

    def pin_suppressed(self, chunk: str, lines: list[int]) -> list[int]:
        """Write down which rows of the chunk are suppressed; those written down before, where there are such."""
        key = f"{self._prefix}/import/suppressed/{chunk}"
        try:
            self._objects.put(key, orjson.dumps(lines), content_type="application/json", if_absent=True)
        except Conflict:
            pinned: list[int] = orjson.loads(self._objects.get(key))
            return pinned
        return lines

    def put_rejects(self, chunk: int, rejects: list[Reject]) -> None:
        """The chunk's part of the report."""
        if rejects:
            self._objects.put(f"{self._parts}{chunk:08}", report_rows(rejects), content_type="text/csv")

    def assemble_report(self, parts: Iterable[bytes] | None = None) -> str:
        """The report of all chunks in order (or of these parts) as one object; its key. Made once: a late worker finds no parts
        any more."""
        key = f"{self._prefix}/rejected.csv"
        if self._objects.info(key) is None:
            content = chain([HEADER], self._chunks() if parts is None else parts)
            with suppress(Conflict):  # another made it meanwhile: of the same parts
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


_ON_LIST = "The address is on the suppression list."


_BY_KEY = itemgetter(1)


class StoredChunk(NamedTuple):
    """What became of a chunk."""

    rejects: list[Reject]
    """Its suppressed rows, then its duplicates."""
    suppressed: int

    @property
    def duplicate(self) -> int:
        """How many rows are duplicates."""
        return len(self.rejects) - self.suppressed


class ChunkStore:
    """See the module's text."""

    def __init__(self, messages: Messages, suppression: SuppressionList, clock: Clock, *, spread: bool = False) -> None:
        """`spread`: store in the order of keys, which strews a chunk over all of its batches: a partition of DynamoDB takes a
        thousand writes a second. Else batch by batch, which makes SQLite's inserts nearly sequential."""
        self._messages = messages
        self._suppression = suppression
        self._clock = clock
        self._order = _BY_KEY if spread else None

    def store(self, campaign: Campaign, name: str, rows: Sequence[MessageRow], workspace: ImportFiles) -> StoredChunk:
        """Store the chunk of that name."""
        ref, topic = campaign.ref, campaign.content.topic
        on_list = self._suppression.suppressed(ref.tenant, [message.key for message in rows], topic=topic)
        found = [message.line for message in rows if message.key in on_list] if on_list else []
        pinned = set(workspace.pin_suppressed(name, found))
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


_TRIES = 10


class ImportCompletion:
    """Of any import."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def ready(self, ref: CampaignRef, batches: int, sums: ImportTotals, report: str | None) -> None:
        """Add up, and say so: the only way to `ready`. The batches have been counted. `Corrupt`: it does not add up."""
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
        """It cannot be imported."""
        self._move(ref, CampaignStatus.FAILED, reason=reason)

    def _move(self, ref: CampaignRef, to: CampaignStatus, **fields: Any) -> None:
        """The end of importing, unless somebody else ended it."""
        for _ in range(_TRIES):
            campaign = self._campaigns.get(ref)
            if campaign.status is not CampaignStatus.IMPORTING:
                return
            try:
                self._campaigns.transition(campaign, to, **fields)
            except Conflict:  # changed since it was read: look again
                continue
            return
        raise Conflict(f"campaign {ref.campaign} is being changed by others all the time; try again")
