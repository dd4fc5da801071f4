"""What a recipients file looks like, told from its beginning before anything is imported: the same recognition as the import's.

Nothing is taken from a row: what is told may be kept where the file itself is kept encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from postroom.errors import Invalid
from postroom.model.upload import Inspection
from postroom.recipients_file.columns import address_column
from postroom.recipients_file.encoding import decode
from postroom.recipients_file.layout import NO_ROWS, Heading, read_heading, records_within
from postroom.recipients_file.records import read_records

_NAMES_BYTES = 40_000
"""A record holds 100 KB in all."""
_NAME_SHOWN = 200


def inspect(head: bytes, size: int) -> Inspection:
    """Of a file of `size` bytes that begins with `head` (`layout.HEAD_BYTES` of it, or all)."""
    whole = len(head) == size
    try:
        heading = read_heading(head, whole=whole)
    except Invalid as error:
        return Inspection(problems=(str(error),))
    rows, broken = _count(head, heading, whole=whole)
    address, problems = _address(heading)
    return Inspection(
        encoding=heading.encoding.codec,
        delimiter=heading.delimiter,
        header=heading.named,
        columns=_shown(heading.names),
        column_count=len(heading.names),
        address_column=address,
        rows=None if broken else rows if whole else round(rows * size / len(head)),
        rows_exact=whole and broken is None,
        problems=(*problems, *([broken] if broken else [])),
    )


def named_rows(blocks: Iterable[bytes], heading: Heading) -> Iterator[dict[str, str]]:
    """The rows of a file given from its first byte, by column name, cells trimmed as the import does. A cell that the row
    does not have is left out. `Invalid` names the line that cannot be read."""
    records = read_records(decode(blocks, heading.encoding), heading.delimiter)
    for _, cells in islice(records, heading.skip, None):
        yield {name: cell.strip() for name, cell in zip(heading.names, cells, strict=False)}


def _count(head: bytes, heading: Heading, *, whole: bool) -> tuple[int, str | None]:
    """Rows in `head`, and why there are no more than these."""
    rows = -heading.skip
    try:
        for _ in records_within(head, heading.encoding, heading.delimiter, whole=whole):
            rows += 1
    except Invalid as error:
        return rows, str(error)
    return rows, None


def _address(heading: Heading) -> tuple[str | None, Sequence[str]]:
    if not heading.rows:
        return None, (NO_ROWS,)
    try:
        found = address_column(heading.names, [cells for _, cells in heading.rows], None)
    except Invalid as error:
        return None, (str(error),)
    return heading.names[found][:_NAME_SHOWN], ()


def _shown(names: Sequence[str]) -> tuple[str, ...]:
    """As many as a record has room for."""
    shown: list[str] = []
    room = _NAMES_BYTES
    for name in names:
        cut = name[:_NAME_SHOWN]
        room -= len(cut.encode()) + 3
        if room < 0:
            break
        shown.append(cut)
    return tuple(shown)
