"""An installation of one campaign to import, on the real embedded stores, and what an import must come to."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import orjson

from postroom.errors import NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.address import AddressError, parse_address
from postroom.model.batch import batch_of
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Import
from postroom.model.ids import Key, recipient_key
from postroom.pipeline.splitter import Checkpoints, ParallelImport, Splitter
from postroom.pipeline.splitter.plan import SIZES, ImportSizes, UploadRange
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Faults

TENANT = "default"
UPLOAD = "default/uploads/recipients"
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A row as whoever wrote the file means it."""

    line: int
    address: str
    values: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of an upload: compared as a whole."""

    messages: dict[int, tuple[str, str | None, str]]
    """By line: mailbox, name, values."""
    rejected: dict[int, str]
    """By line: the reason."""
    sums: tuple[int, int, int, int]
    """Rows, invalid, duplicate, suppressed."""


class Installation:
    """Stores in a directory, one campaign in the state `importing`."""

    def __init__(
        self,
        root: Path,
        upload: bytes | CampaignRef,
        *,
        columns: Sequence[str] = (),
        email_column: str | None = None,
        topic: str | None = None,
    ) -> None:
        """With a new campaign for an upload's content, or with a campaign that is there."""
        self._closers = ExitStack()
        self.clock = ManualClock()
        self.tables = SqliteTables(self._closers.enter_context(closing(open_control(root))), self.clock)
        self.objects = self._closers.enter_context(closing(FileObjects(root / "objects", self.clock)))
        self.messages = SqliteMessages(self._closers.enter_context(closing(LedgerFiles(root / "ledgers"))))
        self.campaigns = Campaigns(self.tables, self.clock)
        self.suppression = SuppressionList(self.tables, self.clock)
        self.tenants = Tenants(self.tables, self.clock)
        self.checkpoints = Checkpoints(self.tables)
        if isinstance(upload, bytes):
            self.objects.put(UPLOAD, upload)
            self.ref = self._new_campaign(columns, email_column, topic)
        else:
            self.ref = upload

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closers.close()

    def _new_campaign(self, columns: Sequence[str], email_column: str | None, topic: str | None) -> CampaignRef:
        source = Import(UPLOAD, "recipients.csv", tuple(columns))
        ref = self.campaigns.new_ref(TENANT)
        draft = campaign_record(
            ref,
            CampaignStatus.DRAFT,
            self.clock.now(),
            spec=campaign_spec(topic=topic, provider="inbox:", email_column=email_column),
            source=source,
        )
        self.campaigns.transition(self.campaigns.create(draft), CampaignStatus.IMPORTING)
        return ref

    @property
    def campaign(self) -> Campaign:
        return self.campaigns.get(self.ref)

    def suppress(self, *addresses: str) -> None:
        for address in addresses:
            self.suppression.add(TENANT, self.key(address), address=address, reason=SuppressionReason.UNSUBSCRIBE)

    def key(self, address: str) -> Key:
        return recipient_key(self.tenants.get(TENANT).secret, parse_address(address).normalised)

    def splitter(self, faults: Faults | None = None, *, chunk: int = 50_000, chunk_bytes: int = 16_000_000) -> Splitter:
        """A splitter whose every call to a store passes `faults`."""
        faults = faults or Faults()
        tables = faults.wrap(self.tables)
        return Splitter(
            campaigns=Campaigns(tables, self.clock),
            messages=faults.wrap(self.messages),
            objects=faults.wrap(self.objects),
            suppression=SuppressionList(tables, self.clock),
            tables=tables,
            tenants=self.tenants,
            clock=self.clock,
            chunk=chunk,
            chunk_bytes=chunk_bytes,
        )

    def parallel(self, faults: Faults | None = None, *, sizes: ImportSizes = SIZES) -> ParallelImport:
        """The import in steps, every call of which to a store passes `faults`."""
        faults = faults or Faults()
        tables = faults.wrap(self.tables)
        return ParallelImport(
            campaigns=Campaigns(tables, self.clock),
            messages=faults.wrap(self.messages),
            objects=faults.wrap(self.objects),
            suppression=SuppressionList(tables, self.clock),
            tables=tables,
            tenants=self.tenants,
            clock=self.clock,
            sizes=sizes,
        )

    def run_parallel(self, faults: Faults | None = None, *, sizes: ImportSizes = SIZES) -> None:
        """All steps, as the state machine takes them, the maps' last items first."""
        steps = self.parallel(faults, sizes=sizes)
        division = steps.plan(self.ref)
        if division is not None:
            for part in reversed(self.listed(division.ranges_key, list[UploadRange])):
                steps.read(self.ref, part)
            for group in reversed(self.listed(division.groups_key, list[int])):
                steps.store(self.ref, group, alive=lambda: True)
        steps.finish(self.ref)

    def listed(self, key: str, kind: type[T]) -> T:
        """What a map is to go through; nothing where that is swept."""
        with suppress(NotFound):
            return msgspec.json.decode(self.objects.get(key), type=kind)
        return kind()

    def run(self, faults: Faults | None = None, *, chunk: int = 50_000, chunk_bytes: int = 16_000_000) -> None:
        self.splitter(faults, chunk=chunk, chunk_bytes=chunk_bytes).run(self.ref, alive=lambda: True)

    def outcome(self) -> Outcome:
        """What the stores say, each batch checked to be the right one and the ledger to add up."""
        campaign = self.campaign
        assert campaign.status is CampaignStatus.READY, campaign.reason
        source = campaign.source
        messages: dict[int, tuple[str, str | None, str]] = {}
        cursor: str | None = None
        while True:
            page = self.messages.list(self.ref, cursor=cursor, limit=1_000)
            for message in page.messages:
                assert message.key == self.key(message.address)
                assert message.batch == batch_of(message.key, source.batches)
                messages[message.line] = (message.address, message.name, message.values)
            cursor = page.cursor
            if cursor is None:
                break
        rejected = {int(row["line"]): row["reason"] for row in self.report()}
        assert self.messages.counts(self.ref).pending == len(messages)
        assert source.rows == len(messages) + len(rejected)
        return Outcome(messages, rejected, (source.rows, source.invalid, source.duplicate, source.suppressed))

    def report(self) -> list[dict[str, str]]:
        key = self.campaign.source.rejected_key
        if key is None:
            return []
        text = self.objects.get(key).decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))


def expected(rows: Sequence[Row], suppressed: Collection[str] = ()) -> Outcome:
    """The naive import: one row after the other, everything in memory."""
    listed = {parse_address(address).normalised for address in suppressed}
    seen: set[str] = set()
    messages: dict[int, tuple[str, str | None, str]] = {}
    rejected: dict[int, str] = {}
    for row in rows:
        try:
            address = parse_address(row.address)
        except AddressError as error:
            rejected[row.line] = error.reason.value
            continue
        if address.normalised in listed:
            rejected[row.line] = "suppressed"
        elif address.normalised in seen:
            rejected[row.line] = "duplicate"
        else:
            seen.add(address.normalised)
            values = [None if value is None else value.strip() for value in row.values]
            messages[row.line] = (address.mailbox, address.name, orjson.dumps(values).decode())
    reasons = list(rejected.values())
    duplicate, listed_rows = reasons.count("duplicate"), reasons.count("suppressed")
    return Outcome(messages, rejected, (len(rows), len(reasons) - duplicate - listed_rows, duplicate, listed_rows))


def main(root: str, campaign: str, chunk: str) -> None:
    """Import in this process, saying so before each chunk: to be killed."""

    def alive() -> bool:
        print("alive", flush=True)
        return True

    with Installation(Path(root), CampaignRef(TENANT, campaign)) as installation:
        installation.splitter(chunk=int(chunk)).run(installation.ref, alive=alive)


if __name__ == "__main__":
    main(*sys.argv[1:])
