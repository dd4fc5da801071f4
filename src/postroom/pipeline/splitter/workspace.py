"""What an import keeps in the object store, all of it below the campaign's own prefix.

<tenant>/campaigns/<campaign>/import/suppressed/<chunk>   lines of suppressed rows: kept, a late worker must find them
<tenant>/campaigns/<campaign>/import/rejected/<chunk>     part of the report: gone once that is whole
<tenant>/campaigns/<campaign>/rejected.csv                the report
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

import orjson

from postroom.errors import Conflict
from postroom.model.campaign import CampaignRef
from postroom.pipeline.splitter.report import HEADER, report_rows
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.rows import Reject


class Workspace:
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
