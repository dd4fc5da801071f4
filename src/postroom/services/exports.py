"""A campaign's messages and rejected rows as CSV, streamed: any number of rows in constant memory.

UTF-8 (RFC 4180); cells that a spreadsheet would take for a formula have an apostrophe in front (sheets.cells).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import orjson

from postroom.errors import NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.cells import csv_line
from postroom.services.status import rfc3339

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
"""Then the row's own cells, under the names of the template's variables."""
REJECTED_HEADER = b"line,address,reason,detail\r\n"

_PAGE = 1_000
_BLOCK = 262_144


class Exports:
    """See the module's text."""

    def __init__(self, campaigns: Campaigns, messages: Messages, objects: Objects) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects

    def every_message(self, ref: CampaignRef, statuses: Collection[MessageStatus] = ()) -> Iterator[Message]:
        """Of these states (none named: all); none where nothing is imported yet."""
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
        """The header, then a line a message. `NotFound` at once."""
        columns = self._campaigns.get(ref).source.columns
        return self._lines(ref, statuses, columns)

    def rejected_csv(self, ref: CampaignRef) -> Iterator[bytes]:
        """The report of rejected rows, in blocks; the header alone where none was, or the import is not done. `NotFound` at
        once."""
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
