"""The suppression list by address, and its CSV import and export.

An import file has one address per row. With a header, the address column is found by name, and columns `reason`, `note`,
`added_at` and `topic` are read if present, so an export can be imported unchanged: the apostrophes that exports put before
formulas are removed (recipients_file.cells). Rejected rows are reported by line; the others are added. Repeating an import is
harmless.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Invalid
from postroom.ledger.collection import ListPage
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model import address
from postroom.model.ids import Key, recipient_key
from postroom.model.tokens import MAX_TOPIC_BYTES
from postroom.platform.ports.tables import MAX_WRITES
from postroom.recipients_file.cells import csv_line, unguarded

MAX_NOTE = 500
MAX_SOURCE = 250
_COLUMNS = ("address", "reason", "note", "added_at", "topic", "expires_at", "source")
_ADDRESS_HEADERS = frozenset(
    {"address", "email", "e-mail", "mail", "email address", "e-mail address", "emailaddress", "recipient"}
)
_DELIMITERS = ",;\t"  # the first wins a draw


class RejectedLine(NamedTuple):
    line: int
    text: str
    reason: str


class Imported(NamedTuple):
    """The result of an import."""

    rows: int
    added: int
    already: int
    rejected: list[RejectedLine]
    """The first rejected rows, at most `keep`."""

    @property
    def refused(self) -> int:
        """All rejected rows, listed or not."""
        return self.rows - self.added - self.already


class SuppressionLists:
    """The lists of all tenants."""

    def __init__(self, suppression: SuppressionList, tenants: Tenants, clock: Clock) -> None:
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock

    def for_tenant(self, tenant: str) -> TenantSuppressions:
        return TenantSuppressions(self._suppression, self._tenants, self._clock, tenant=tenant)


class TenantSuppressions:
    """One tenant's list."""

    def __init__(self, suppression: SuppressionList, tenants: Tenants, clock: Clock, *, tenant: str) -> None:
        self._suppression = suppression
        self._clock = clock
        self._tenant = tenant
        self._tenants = tenants

    def add(
        self,
        text: str,
        *,
        reason: SuppressionReason = SuppressionReason.MANUAL,
        note: str = "",
        topic: str | None = None,
        until: Instant | None = None,
    ) -> bool:
        """Suppress an address for all mail or one topic, until a time or for good. Returns whether that changed anything.

        Raises `Invalid` for no address or a time in the past."""
        if until is not None and until <= self._clock.now():
            raise Invalid("an entry cannot end before it begins")
        entry = replace(self._entry(text, reason, note, self._secret()), topic=_topic(topic or ""), expires_at=until)
        return self._suppression.add_all(self._tenant, [entry]) == 1

    def remove(self, text: str, *, topic: str | None = None) -> bool:
        """Remove an address, from all topics too, or only from `topic`. Returns whether it was listed. Raises `Invalid`."""
        return self._suppression.remove(self._tenant, self._key(text), topic=topic)

    def get(self, text: str, *, topic: str | None = None) -> SuppressionEntry | None:
        """The entry of an address for all mail, or for `topic`; None if there is none. Raises `Invalid`."""
        return self._suppression.get(self._tenant, self._key(text), topic=topic)

    def entries_of(self, text: str) -> list[SuppressionEntry]:
        """All entries of an address, the one for all mail first. Raises `Invalid`."""
        return self._suppression.entries_for(self._tenant, self._key(text))

    def list(self, *, cursor: str | None = None, limit: int = 100) -> ListPage[SuppressionEntry]:
        """A page, in no particular order; `limit` 1 to 1,000."""
        return self._suppression.list(self._tenant, cursor=cursor, limit=limit)

    def entries(self) -> Iterator[SuppressionEntry]:
        cursor: str | None = None
        while True:
            page = self._suppression.list(self._tenant, cursor=cursor, limit=1_000)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def export_csv(self) -> Iterator[str]:
        """The list as CSV rows, header first. Entries that hold only a key are left out."""
        yield csv_line(_COLUMNS)
        for entry in filter(lambda entry: entry.address, self.entries()):
            ends = "" if entry.expires_at is None else _time(entry.expires_at)
            since = _time(entry.added_at)
            yield csv_line((entry.address, entry.reason.value, entry.note, since, entry.topic or "", ends, entry.source))

    def import_csv(
        self, file: BinaryIO, *, reason: SuppressionReason = SuppressionReason.MANUAL, keep: int = sys.maxsize
    ) -> Imported:
        """Import a CSV file in UTF-8. `reason` applies to rows without one. Expired entries are ignored. Lists up to `keep`
        rejected rows.

        Raises `Invalid` if it is no CSV from some line on; the rows before it are added."""
        secret = self._secret()
        rows = added = refused = 0
        rejected: list[RejectedLine] = []
        records = _records(file)
        while chunk := list(islice(records, MAX_WRITES)):
            entries = []
            for line, record in chunk:
                try:
                    entries.append(self._read(record, reason, secret))
                except Invalid as error:
                    refused += 1
                    if refused <= keep:
                        rejected.append(RejectedLine(line, record.get("address", ""), str(error)))
            rows += len(chunk)
            now = self._clock.now()
            lasting = [entry for entry in entries if entry.expires_at is None or entry.expires_at > now]
            added += self._suppression.add_all(self._tenant, lasting)
        return Imported(rows, added, rows - added - refused, rejected)

    def _read(self, record: dict[str, str], reason: SuppressionReason, secret: bytes) -> SuppressionEntry:
        word = record.get("reason", "").strip().lower()
        try:
            named = SuppressionReason(word) if word else reason
        except ValueError as error:
            raise Invalid(f"{word!r} is no reason; there are {', '.join(SuppressionReason)}") from error
        entry = self._entry(record.get("address", ""), named, record.get("note", ""), secret)
        entry = replace(entry, topic=_topic(record.get("topic", "")))
        since, ends = record.get("added_at", "").strip(), record.get("expires_at", "").strip()
        return replace(
            entry,
            added_at=_instant(since) if since else entry.added_at,
            expires_at=_instant(ends) if ends else None,
            source=record.get("source", "").strip()[:MAX_SOURCE],
        )

    def _entry(self, text: str, reason: SuppressionReason, note: str, secret: bytes) -> SuppressionEntry:
        parsed = address.parse_address(text)
        return SuppressionEntry(
            recipient_key(secret, parsed.normalised), parsed.mailbox, reason, self._clock.now(), note[:MAX_NOTE]
        )

    def _key(self, text: str) -> Key:
        return recipient_key(self._secret(), address.parse_address(text).normalised)

    def _secret(self) -> bytes:
        return self._tenants.get(self._tenant).secret


def _records(file: BinaryIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Each non-empty row by column, with the line it ends on."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        head = [first := text.readline()]
        while first and not first.strip():
            head.append(first := text.readline())
        reader = csv.reader(chain(head, text), delimiter=max(_DELIMITERS, key=first.count), strict=True)
        columns: list[str] | None = None
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _columns(cells)
                if columns[0] != "address" or "@" not in cells[0]:
                    continue
            yield reader.line_num, dict(zip(columns, map(unguarded, cells), strict=False))
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num} is no CSV: {error}; the rows before it have been entered") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"the file is not UTF-8: {error.reason} in byte {error.start} of a block; save it as UTF-8") from error
    finally:
        text.detach()


def _columns(first: list[str]) -> list[str]:
    """Column names from the first row: a header, or an address in a file without one."""
    names = [cell.strip().lower() for cell in first]
    for at, name in enumerate(names):
        if name in _ADDRESS_HEADERS:
            return [*names[:at], "address", *names[at + 1 :]]
    if first and "@" in first[0]:
        return ["address"]
    raise Invalid(f"no column holds addresses; the first row is {', '.join(first)!r}: name one `address`")


def _topic(text: str) -> str | None:
    topic = text.strip()
    if len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES:
        raise Invalid(f"the topic is longer than {MAX_TOPIC_BYTES} bytes")
    return topic or None


def _instant(text: str) -> Instant:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no time as RFC 3339 has it") from error
    instant = Instant(round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    try:
        _time(instant)  # near the first and last dates, rounding or a time zone leads out of the calendar
    except (OverflowError, ValueError) as error:
        raise Invalid(f"{text!r} is beyond the calendar") from error
    return instant


def _time(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
