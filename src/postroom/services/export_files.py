"""Exports as files of the store, to be had by a signed URL: for a door that can answer no more than 6 MB (AWS Lambda).

A file is written anew for each call, under its name, and its URL lives ten minutes. What lies under `exports/` is deleted after a
day by the bucket's lifecycle, and a tenant's at once by erasures (services.erasure_work). A killed writer leaves the file of the
call before, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroom.clock import Clock, Instant
from postroom.errors import Invalid
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.transfers import PresignedRequest, Transfers

WITHIN_S: Final = 20.0
"""API Gateway answers for us after 29 seconds."""
_LIFE_MS: Final = 600_000
_BLOCK: Final = 262_144


class ExportFiles:
    """See the module's text."""

    def __init__(self, objects: Objects, transfers: Transfers, clock: Clock, *, within_s: float = WITHIN_S) -> None:
        self._objects = objects
        self._transfers = transfers
        self._clock = clock
        self._within_s = within_s

    def written(self, tenant: str, parts: Iterator[bytes], filename: str, *, content_type: str) -> PresignedRequest:
        """Where the file is to be had. `Invalid`: it cannot be written in time."""
        key = f"{exports_of(tenant)}{filename}"
        self._objects.put(key, self._in_time(parts), content_type=content_type)
        until = Instant(self._clock.now() + _LIFE_MS)
        return self._transfers.get(key, filename=filename, content_type=content_type, expires_at=until)

    def _in_time(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """In blocks."""
        ends = self._clock.monotonic() + self._within_s
        block = bytearray()
        for part in parts:
            block += part
            if len(block) < _BLOCK:
                continue
            yield bytes(block)
            block.clear()
            if self._clock.monotonic() > ends:
                raise Invalid(f"there is more than can be exported in {self._within_s:g} s here: ask for less, or page by page")
        if block:
            yield bytes(block)


def exports_of(tenant: str) -> str:
    """What the keys of a tenant's begin with."""
    return f"exports/{tenant}/"
