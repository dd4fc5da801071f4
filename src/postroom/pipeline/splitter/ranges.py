"""An upload in ranges: parts that begin and end between two records, so that each can be read alone, anywhere, by anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from postroom.recipients_file.encoding import Encoding, decode
from postroom.recipients_file.layout import Layout
from postroom.recipients_file.records import LineOffsets, Record, read_records


class Range(msgspec.Struct, frozen=True):
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


def find_ranges(blocks: Iterable[bytes], layout: Layout, *, rows: int, size: int) -> Iterator[Range]:
    """The upload in ranges of `rows` rows, or fewer where they are longer than `size` bytes. A range is a little larger where the
    next record's place cannot be told. `Invalid` as `read_records`."""
    offsets = LineOffsets(layout.encoding)
    number, start, line, count = 0, layout.encoding.bom, 1, 0
    for begin, _ in islice(read_records(offsets.decode(blocks), layout.delimiter), layout.skip, None):
        if (count >= rows or (count and offsets.read - start >= size)) and (at := offsets.of(begin)) is not None:
            yield Range(number, start, at, line, count)
            number, start, line, count = number + 1, at, begin, 0
        count += 1
    if count:
        yield Range(number, start, offsets.read, line, count)


def records_of(blocks: Iterable[bytes], part: Range, layout: Layout) -> Iterator[Record]:
    """The rows of one range, whose bytes `blocks` are."""
    texts = decode(blocks, Encoding(layout.encoding.codec))
    records = read_records(texts, layout.delimiter, first_line=part.line)
    return islice(records, layout.skip if part.number == 0 else 0, None)
