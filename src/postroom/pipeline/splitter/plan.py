"""Plans an import: finds the upload's version and layout, reads it once, and freezes how it is divided.

A parallel import reads an upload in ranges. A range begins and ends between two records, so any function can read it alone.
`PlanStep`, the first step, freezes the ranges, the number of batches, the groups of batches and the sizes of chunks before the
first row is stored. Every later or concurrent run of the step follows the plan that was frozen first. A bad upload is rejected
here, with the same words as by an import in one process.
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
from postroom.model.campaign import Campaign, CampaignRef, CampaignSpec, Import
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
    """The version of the upload's object, and how it is read."""

    version: str
    layout: Layout


def recognise_upload(objects: Objects, spec: CampaignSpec, source: Import) -> RecognisedUpload:
    """Find the version the campaign names (or the newest) and recognise its layout from its first bytes. Raises `Invalid`."""
    upload = objects.info(source.upload_key, source.upload_version)
    if upload is None:
        raise upload_gone(source)
    head = objects.read(source.upload_key, 0, HEAD_BYTES, upload.version)
    return RecognisedUpload(upload.version, layout_for(spec, source, head, whole=len(head) == upload.size))


def read_upload(objects: Objects, source: Import, version: str) -> Iterator[bytes]:
    """The upload's bytes. Raises `Invalid` if it is gone."""
    try:
        stream = objects.open(source.upload_key, version)
    except NotFound as error:
        raise upload_gone(source) from error
    with closing(stream):
        yield from iter(lambda: stream.read(BLOCK), b"")


def read_upload_part(objects: Objects, source: Import, version: str, *, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to before `end`. Raises `Invalid` if the upload is gone."""
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
    """The error if the upload does not exist."""
    return Invalid(f"The upload {source.filename} is gone: upload it again.")


class UploadRange(msgspec.Struct, frozen=True):
    """One part of an upload."""

    number: int
    """Counted from 0 in the order of the upload."""
    start: int
    """Its first byte."""
    end: int
    """The byte after its last."""
    line: int
    """The line of the upload that the range begins on."""
    rows: int
    """Rows in the range."""


def find_ranges(blocks: Iterable[bytes], layout: Layout, *, rows: int, size: int) -> Iterator[UploadRange]:
    """Divide the upload into ranges of `rows` rows, or fewer if they exceed `size` bytes. A range is a little larger if the
    offset of the next record is not known. Raises `Invalid` as `read_records` does."""
    offsets = LineOffsets(layout.encoding)
    number, start, line, count = 0, layout.encoding.bom, 1, 0
    for begin, _ in islice(read_records(offsets.decode(blocks), layout.delimiter), layout.skip, None):
        if (count >= rows or (count and offsets.read - start >= size)) and (at := offsets.offset_of(begin)) is not None:
            yield UploadRange(number, start, at, line, count)
            number, start, line, count = number + 1, at, begin, 0
        count += 1
    if count:
        yield UploadRange(number, start, offsets.read, line, count)


def range_records(blocks: Iterable[bytes], part: UploadRange, layout: Layout) -> Iterator[Record]:
    """The rows of a range; `blocks` are its bytes."""
    texts = decode(blocks, Encoding(layout.encoding.codec))
    records = read_records(texts, layout.delimiter, first_line=part.line)
    return islice(records, layout.skip if part.number == 0 else 0, None)


@dataclass(frozen=True, slots=True)
class ImportSizes:
    """How much one call of a function does. The reasons: docs/reference/aws-limits.md."""

    range_rows: int = 50_000
    range_bytes: int = 16_000_000
    """Bytes that end a range of long rows early."""
    group_batches: int = 200
    """Batches in a group, at most: about 100,000 rows."""
    chunk_rows: int = 20_000
    """Rows of a group stored at a time, and repeated after a crash; up to a range's rows more."""
    chunk_bytes: int = 16_000_000
    """Bytes of rows that end a chunk early."""


SIZES = ImportSizes()


def groups_for(batches: int, sizes: ImportSizes = SIZES) -> int:
    """The number of groups for that many batches."""
    return -(-batches // sizes.group_batches)


def group_of(batch: int, batches: int, groups: int) -> int:
    """The group of a batch. Groups are runs of neighbours; their sizes differ by one batch at most."""
    return batch * groups // batches


def batches_of(group: int, batches: int, groups: int) -> range:
    """The batches of a group."""
    return range(-(-group * batches // groups), -(-(group + 1) * batches // groups))


class PlanStep:
    """The first step of a parallel import."""

    def __init__(self, checkpoints: Checkpoints, messages: Messages, objects: Objects, sizes: ImportSizes) -> None:
        self._checkpoints = checkpoints
        self._messages = messages
        self._objects = objects
        self._sizes = sizes

    def run(self, campaign: Campaign) -> Division:
        """Freeze the plan, or follow the one that was frozen before, and create the campaign's batches. Raises `Invalid` if the
        upload is bad."""
        checkpoint = self._checkpoints.load(campaign.ref)
        if checkpoint is None:
            checkpoint = self._checkpoints.begin(campaign.ref, self._plan(campaign))
        self._messages.create(campaign.ref, checkpoint.plan.batches)
        return division_of(checkpoint.plan, campaign.ref)

    def _plan(self, campaign: Campaign) -> Plan:
        ref, source = campaign.ref, campaign.source
        version, layout = recognise_upload(self._objects, campaign.spec, source)
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
    """How the import is divided. Raises `Conflict` if one process does the whole import."""
    if plan.division is None:
        raise Conflict(f"campaign {ref.campaign} is being imported by one process")
    return plan.division
