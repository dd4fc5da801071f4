"""Exports a campaign's messages and rejected rows as CSV, streamed in constant memory.

UTF-8 (RFC 4180). Cells that a spreadsheet would take for a formula get an apostrophe in front (recipients_file.cells).

`ExportFiles` writes an export to the object store and returns a signed URL, for AWS Lambda, whose answers are limited to 6 MB.
The file is written again at each call; its URL is valid for ten minutes. The bucket's lifecycle deletes `exports/` after a day,
and an erasure deletes a tenant's at once. A crash leaves the file of the call before, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import orjson

from postroom.clock import Clock, Instant, rfc3339
from postroom.errors import Invalid, NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.transfers import PresignedRequest, Transfers
from postroom.recipients_file.cells import csv_line

COLUMNS = (
    "line",
    "address",
    "status",
    "attempts",
    "at",
    "code",
    "reply",
    "provider_id",
    "opened_at",
    "clicked_at",
    "unsubscribed_at",
)

"""Followed by the row's cells, under the names of the template's variables."""
REJECTED_HEADER = b"line,address,reason,detail\r\n"
_PAGE = 1_000
_BLOCK = 262_144


class CampaignExports:
    def __init__(self, campaigns: Campaigns, messages: Messages, objects: Objects) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects

    def every_message(self, ref: CampaignRef, statuses: Collection[MessageStatus] = ()) -> Iterator[Message]:
        """Messages of these statuses (default: all); none before the import."""
        cursor: str | None = None
        while True:
            try:
                page = self._messages.list(ref, statuses=statuses, cursor=cursor, limit=_PAGE)
            except NotFound:
                return
            yield from page.messages
            cursor = page.cursor
            if cursor is None:
                return

    def messages_csv(self, ref: CampaignRef, statuses: Collection[MessageStatus] = ()) -> Iterator[str]:
        """A header line, then a line per message. Raises `NotFound` at once."""
        columns = self._campaigns.get(ref).source.columns
        return self._lines(ref, statuses, columns)

    def rejected_csv(self, ref: CampaignRef) -> Iterator[bytes]:
        """The report of rejected rows, in blocks. Only the header if no row was rejected or the import is not done.

        Raises `NotFound` at once."""
        key = self._campaigns.get(ref).source.rejected_key
        return iter([REJECTED_HEADER]) if key is None else self._blocks(key)

    def _lines(self, ref: CampaignRef, statuses: Collection[MessageStatus], columns: tuple[str, ...]) -> Iterator[str]:
        yield csv_line((*COLUMNS, *columns))
        for message in self.every_message(ref, statuses):
            fixed = (message.line, message.address, message.status.label, message.attempt, rfc3339(message.at))
            reply = (message.code or None, message.reply, message.provider_id)
            people = map(rfc3339, (message.opened_at, message.clicked_at, message.unsubscribed_at))
            yield csv_line((*fixed, *reply, *people, *orjson.loads(message.values)))

    def _blocks(self, key: str) -> Iterator[bytes]:
        with self._objects.open(key) as report:
            while block := report.read(_BLOCK):
                yield block


WITHIN_S: Final = 20.0
"""API Gateway's limit is 29 seconds."""
_LIFE_MS: Final = 600_000
_FILE_BLOCK: Final = 262_144


class ExportFiles:
    def __init__(self, objects: Objects, transfers: Transfers, clock: Clock, *, within_s: float = WITHIN_S) -> None:
        self._objects = objects
        self._transfers = transfers
        self._clock = clock
        self._within_s = within_s

    def written(self, tenant: str, parts: Iterator[bytes], filename: str, *, content_type: str) -> PresignedRequest:
        """Write the file and return its URL. Raises `Invalid` if it takes too long."""
        key = f"{exports_prefix(tenant)}{filename}"
        self._objects.put(key, self._in_time(parts), content_type=content_type)
        until = Instant(self._clock.now() + _LIFE_MS)
        return self._transfers.get(key, filename=filename, content_type=content_type, expires_at=until)

    def _in_time(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        ends = self._clock.monotonic() + self._within_s
        block = bytearray()
        for part in parts:
            block += part
            if len(block) < _FILE_BLOCK:
                continue
            yield bytes(block)
            block.clear()
            if self._clock.monotonic() > ends:
                raise Invalid(f"there is more than can be exported in {self._within_s:g} s here: ask for less, or page by page")
        if block:
            yield bytes(block)


def exports_prefix(tenant: str) -> str:
    """The prefix of a tenant's export keys."""
    return f"exports/{tenant}/"
