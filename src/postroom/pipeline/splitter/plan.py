"""The upload of a campaign, as what reads it sees it: one version of one object, and how it is laid out.

An upload in ranges: parts that begin and end between two records, so that each can be read alone, anywhere, by anybody.

The first step of a divided import: the upload is read through once, and all that follows is frozen.

Its ranges, the number of batches, the groups of batches, the sizes of chunks: all stand in the plan or in lists that the plan
names, before the first row is stored. Whoever does this step again, or at the same time, follows the plan that was first. A bad
upload is found here, as by an import in one process, with the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import msgspec

from postroom.errors import Conflict, Invalid, NotFound
from postroom.model.batch import batches_for
from postroom.model.campaign import Campaign, CampaignRef, Import
from postroom.pipeline.splitter.checkpoint import Checkpoints, Division, Plan
from postroom.pipeline.splitter.exchange import Exchange
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.encoding import Encoding, decode
from postroom.recipients_file.layout import HEAD_BYTES, Layout, layout_for
from postroom.recipients_file.records import LineOffsets, Record, read_records

BLOCK = 262_144


_PART = 4_194_304


class RecognisedUpload(NamedTuple):
    """What is imported, and how it is read."""

    version: str
    layout: Layout


def recognise_upload(objects: Objects, source: Import) -> RecognisedUpload:
    """The version that the campaign names, or the newest, and its layout, told from its beginning. `Invalid`."""
    upload = objects.info(source.upload_key, source.upload_version)
    if upload is None:
        raise upload_gone(source)
    head = objects.read(source.upload_key, 0, HEAD_BYTES, upload.version)
    return RecognisedUpload(upload.version, layout_for(source, head, whole=len(head) == upload.size))


def read_upload(objects: Objects, source: Import, version: str) -> Iterator[bytes]:
    """The whole, from its beginning. `Invalid`: it is gone."""
    try:
        stream = objects.open(source.upload_key, version)
    except NotFound as error:
        raise upload_gone(source) from error
    with closing(stream):
        yield from iter(lambda: stream.read(BLOCK), b"")


def read_upload_part(objects: Objects, source: Import, version: str, *, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to before `end`. `Invalid`: it is gone."""
    while start < end:
        try:
            block = objects.read(source.upload_key, start, min(_PART, end - start), version)
        except NotFound as error:
            raise upload_gone(source) from error
        if not block:
            return
        yield block
        start += len(block)


def upload_gone(source: Import) -> Invalid:
    """What to say where it is not there."""
    return Invalid(f"The upload {source.filename} is gone: upload it again.")


class UploadRange(msgspec.Struct, frozen=True):
    """One part of an upload."""

    number: int
    """From 0, in the order of the upload."""
    start: int
    """Its first byte."""
    end: int
    """The byte after its last."""
    line: int
    """Of the upload: where it begins."""
    rows: int
    """How many are in it."""


def find_ranges(blocks: Iterable[bytes], layout: Layout, *, rows: int, size: int) -> Iterator[UploadRange]:
    """The upload in ranges of `rows` rows, or fewer where they are longer than `size` bytes. A range is a little larger where the
    next record's place cannot be told. `Invalid` as `read_records`."""
    offsets = LineOffsets(layout.encoding)
    number, start, line, count = 0, layout.encoding.bom, 1, 0
    for begin, _ in islice(read_records(offsets.decode(blocks), layout.delimiter), layout.skip, None):
        if (count >= rows or (count and offsets.read - start >= size)) and (at := offsets.of(begin)) is not None:
            yield UploadRange(number, start, at, line, count)
            number, start, line, count = number + 1, at, begin, 0
        count += 1
    if count:
        yield UploadRange(number, start, offsets.read, line, count)


def range_records(blocks: Iterable[bytes], part: UploadRange, layout: Layout) -> Iterator[Record]:
    """The rows of one range, whose bytes `blocks` are."""
    texts = decode(blocks, Encoding(layout.encoding.codec))
    records = read_records(texts, layout.delimiter, first_line=part.line)
    return islice(records, layout.skip if part.number == 0 else 0, None)


@dataclass(frozen=True, slots=True)
class ImportSizes:
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


SIZES = ImportSizes()


def groups_for(batches: int, sizes: ImportSizes = SIZES) -> int:
    """How many groups so many batches make."""
    return -(-batches // sizes.group_batches)


def group_of(batch: int, batches: int, groups: int) -> int:
    """The group that has a batch: a run of neighbours, all groups of one size but for one batch."""
    return batch * groups // batches


def batches_of(group: int, batches: int, groups: int) -> range:
    """The batches of a group."""
    return range(-(-group * batches // groups), -(-(group + 1) * batches // groups))


class PlanStep:
    """See the module's text."""

    def __init__(self, checkpoints: Checkpoints, messages: Messages, objects: Objects, sizes: ImportSizes) -> None:
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
        version, layout = recognise_upload(self._objects, source)
        upload = read_upload(self._objects, source, version)
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

    def _division(self, ref: CampaignRef, ranges: list[UploadRange], groups: int) -> Division:
        exchange = Exchange(self._objects, ref)
        return Division(len(ranges), groups, exchange.put_list(ranges), exchange.put_list(list(range(groups))))


def division_of(plan: Plan, ref: CampaignRef) -> Division:
    """`Conflict`: one process does it all."""
    if plan.division is None:
        raise Conflict(f"campaign {ref.campaign} is being imported by one process")
    return plan.division
