"""All items of a partition, page after page. Not one snapshot: what is written meanwhile may come or not."""

from __future__ import annotations

from collections.abc import Iterator

from postroom.platform.ports.tables import Item, Tables


def every(tables: Tables, partition: str, *, prefix: str = "", at_once: int = 1_000) -> Iterator[Item]:
    """In order; `at_once`: how many are read at a time, fewer where whoever asks may soon have enough."""
    cursor: str | None = None
    while True:
        page = tables.query(partition, prefix=prefix, cursor=cursor, limit=at_once)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return
