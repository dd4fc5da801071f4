"""Erasure of a person (GDPR Art. 17): deletes what a tenant's records hold about an address.

A person is identified by key (model.ids): an HMAC of the normalised address under the tenant's secret. A campaign's message is
found by key without reading the others, and the erasure itself stores no address. Order:

    suppression list: only the key stays, or nothing · uploads with a row of the person: deleted
    each campaign: message skipped if it waits, then erased; recipients file deleted; report of rejected rows rewritten
    each day of single messages: read through, because their keys are not made from addresses
    callback deliveries: address removed · built-in inbox: mails to the person deleted
    audit trail: records the erasure, by key

A recipients file is deleted as a whole, because it must stay what its owner uploaded. Each step can be repeated and finds what is
left, so after a crash the erasure is run again. A campaign that is being imported, its upload, or a batch that a worker holds for
long must be waited for: then the result is not `complete` and lists it in `waiting`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from postroom.clock import Clock
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger import scheduler_messages
from postroom.ledger.audit import AuditLog
from postroom.ledger.bulk_update import (
    KeptValues,
    MessageEraser,
    ShouldContinue,
    StillSending,
    UpdateTarget,
    never_stopped,
    no_values,
)
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, CallbackEndpoints
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants, tenant_lock
from postroom.model import address
from postroom.model.audit import AuditRecord
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Policies
from postroom.model.ids import INBOX_PREFIX as INBOX
from postroom.model.ids import Key, key_maker, recipient_key
from postroom.model.message import Message, Recipient
from postroom.model.stream import TransactionalValues, day_of, stream_ref
from postroom.model.tenant import Tenant
from postroom.model.upload import Upload, UploadKind, UploadStatus
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.workflows import ExecutionStatus, Workflows
from postroom.recipients_file.cells import unguarded
from postroom.recipients_file.encoding import decode
from postroom.recipients_file.layout import HEAD_BYTES, read_header
from postroom.recipients_file.records import read_records
from postroom.services.campaign_creation import prefix
from postroom.services.exports import exports_prefix
from postroom.services.mail_reading import read_headers
from postroom.services.uploads import UploadService

_BLOCK = 262_144
_MAIL_HEAD = 16_384
_CSV = "text/csv; charset=utf-8"
_ADDRESS_COLUMN = 1
_AT = ("@", "\uff20", "\ufe6b")  # full width, small
_LOOKS_LIKE_ONE = re.compile(r"[^\s,;<>\"|/]+@[^\s,;<>\"|/]+")
Beat = Callable[[], None]
"""Called every few thousand rows; an exception from it ends the work."""
_BEAT_ROWS = 2_000
_Row = TypeVar("_Row")


class PersonSearch:
    """Searches a tenant's files for one person."""

    def __init__(self, objects: Objects, secret: bytes, key: Key, beat: Beat) -> None:
        self._objects = objects
        self._key_of = key_maker(secret)
        self._key = key
        self._beat = beat

    def in_cell(self, cell: str) -> bool:
        """Whether the cell contains the person's address."""
        if not any(at in cell for at in _AT):
            return False
        try:
            return self._key_of(address.parse_address(cell).normalised) == self._key
        except address.AddressError:
            return any(self.in_cell(part) for part in _LOOKS_LIKE_ONE.findall(cell) if part != cell)

    def in_recipients(self, key: str, version: str | None = None) -> bool:
        """Whether a recipients file has a row of the person. A file that cannot be read to its end counts: it is unusable."""
        try:
            head = self._objects.read(key, 0, HEAD_BYTES, version)
            heading = read_header(head, whole=len(head) < HEAD_BYTES)
            records = read_records(decode(self._blocks(key, version), heading.encoding), heading.delimiter)
            return any(any(map(self.in_cell, cells)) for _, cells in self._beating(records))
        except NotFound:
            return False
        except Invalid:
            return True

    def in_report(self, report: str, *, spare: str) -> bool:
        """Whether a report of rejected rows has lines of the person. First completes an interrupted `take_out_of_report`."""
        if self._objects.info(spare) is not None:
            self._replace(report, spare)
        there = self._objects.info(report) is not None
        return there and any(map(self._is_their_line, self._beating(self._lines(report))))

    def take_out_of_report(self, report: str, *, spare: str) -> None:
        """Rewrite the report without the person's lines and purge older versions. Not for concurrent use.

        The new report is complete under `spare` before the old one is deleted: after a kill, `in_report` completes the move."""
        self._objects.put(spare, self._without_theirs(report), content_type=_CSV)
        self._replace(report, spare)

    def _replace(self, report: str, spare: str) -> None:
        self._objects.purge(report)
        self._objects.put(report, self._blocks(spare), content_type=_CSV)
        self._objects.purge(spare)

    def mails(self) -> Iterator[str]:
        """Object keys of mails to the person in the built-in inbox, which has no tenants."""
        cursor: str | None = None
        while True:
            page = self._objects.list(INBOX, cursor=cursor, limit=1_000)
            for info in page.objects:
                self._beat()
                if self._is_to_them(info.key):
                    yield info.key
            cursor = page.cursor
            if cursor is None:
                return

    def _is_to_them(self, mail: str) -> bool:
        try:
            head = self._objects.read(mail, 0, _MAIL_HEAD)
        except NotFound:  # deleted meanwhile
            return False
        return any(self.in_cell(value) for name, value in read_headers(head) if name.lower() in {"delivered-to", "to"})

    def _beating(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for number, row in enumerate(rows):
            if number % _BEAT_ROWS == 0:
                self._beat()
            yield row

    def _without_theirs(self, report: str) -> Iterator[bytes]:
        return (line for line in self._beating(self._lines(report)) if not self._is_their_line(line))

    def _is_their_line(self, line: bytes) -> bool:
        cells = next(csv.reader([line.decode("utf-8", "replace")]), [])
        return len(cells) > _ADDRESS_COLUMN and self.in_cell(unguarded(cells[_ADDRESS_COLUMN]))

    def _lines(self, report: str) -> Iterator[bytes]:
        """Rows of the report: one line each (pipeline.splitter.report)."""
        rest = b""
        for block in self._blocks(report):
            *lines, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _blocks(self, key: str, version: str | None = None) -> Iterator[bytes]:
        with closing(self._objects.open(key, version)) as stream:
            yield from iter(lambda: stream.read(_BLOCK), b"")


_PAGE = 1_000
_OLDEST_DAYS = 3_650
"""How far back single messages are searched if the tenant's creation time is unknown."""
_UNREAD = frozenset({CampaignStatus.DRAFT, CampaignStatus.IMPORTING})


@dataclass(slots=True)
class ErasureFindings:
    """What an erasure found. Items that an earlier erasure deleted are not listed again; erased messages are."""

    complete: bool = False
    campaigns: list[str] = field(default_factory=list)
    """Campaigns with a message to the person."""
    singles: int = 0
    """Single messages erased."""
    uploads: list[str] = field(default_factory=list)
    """Ids of deleted recipients files."""
    files: list[str] = field(default_factory=list)
    """Campaigns whose own recipients file was deleted."""
    reports: list[str] = field(default_factory=list)
    """Campaigns whose report of rejected rows was rewritten."""
    mails: int = 0
    """Mails deleted from the built-in inbox."""
    told: int = 0
    """Callback deliveries from which the address was removed."""
    suppressed: bool = False
    """Whether the person is still on the suppression list, by key alone."""
    waiting: list[str] = field(default_factory=list)
    """What is not erased yet: campaigns that are being imported or never were, their uploads, and campaigns and days of single
    messages that a worker is sending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureStores:
    """The stores that are searched."""

    campaigns: Campaigns
    messages: Messages
    objects: Objects
    uploads: UploadService
    suppression: SuppressionList
    workflows: Workflows
    erasing: MessageEraser
    callbacks: CallbackEndpoints
    deliveries: CallbackDeliveries


class ErasureInterrupted(Exception):
    """Raised when `alive` returns False."""


class _Stream:
    """A daily stream, as a target of the bulk update."""

    def __init__(self, ref: CampaignRef) -> None:
        self.ref = ref
        self.policies = Policies()


class ErasureRun:
    def __init__(self, places: ErasureStores, owner: Tenant, key: Key, *, beat: Callable[[], None], clock: Clock) -> None:
        self.found = ErasureFindings()
        self._places = places
        self._owner = owner
        self._key = key
        self._beat = beat
        self._clock = clock
        self._traces = PersonSearch(places.objects, owner.secret, key, beat)

    def steps(self, *, forget_suppression: bool) -> Iterator[str]:
        """Yields the name of each step before it runs; the step is done when the next is asked for."""
        yield "suppression list"
        self._suppression(forget=forget_suppression)
        for upload in self._uploads():
            yield f"upload {upload.id}"
            self._upload(upload)
        self._purge_uploads()
        for campaign in self._campaigns():
            yield f"campaign {campaign.ref.campaign}"
            with suppress(NotFound):  # deleted meanwhile
                self._campaign(campaign)
        yield "single messages"
        for ref in self._streams():
            self._beat()
            self._stream(ref)
        yield "callbacks"
        for endpoint in self._endpoints():
            self.found.told += self._places.deliveries.forget(self._owner.id, endpoint, self._traces.in_cell, self._beat)
        yield "inbox"
        for mail in self._traces.mails():
            self._places.objects.purge(mail)
            self.found.mails += 1
        yield "exports"
        self._places.objects.purge(exports_prefix(self._owner.id))

    def _suppression(self, *, forget: bool) -> None:
        suppression, tenant = self._places.suppression, self._owner.id
        if forget:
            suppression.remove(tenant, self._key)
        else:
            self.found.suppressed = suppression.forget_address(tenant, self._key)

    def _uploads(self) -> Iterator[Upload]:
        cursor: str | None = None
        while True:
            page = self._places.uploads.list(self._owner.id, cursor=cursor)
            for upload in page.items:
                if upload.kind is UploadKind.RECIPIENTS and upload.status is UploadStatus.READY:
                    yield upload
            cursor = page.cursor
            if cursor is None:
                return

    def _upload(self, upload: Upload) -> None:
        """Delete the upload if it has a row of the person, unless a campaign still has to read it."""
        if not self._traces.in_recipients(upload.object_key, upload.object_version):
            return
        try:
            self._places.uploads.delete(self._owner.id, upload.id)
        except Conflict:
            self.found.waiting.append(upload.id)
        except NotFound:  # deleted meanwhile
            return
        else:
            self.found.uploads.append(upload.id)

    def _purge_uploads(self) -> None:
        """Purge uploads whose deletion was interrupted: their bytes are still there, and maintenance would come later."""
        while self._places.uploads.expire(self._clock.now(), limit=_PAGE) == _PAGE:
            self._beat()

    def _campaigns(self) -> Iterator[Campaign]:
        cursor: str | None = None
        while True:
            page = self._places.campaigns.list(self._owner.id, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def _campaign(self, campaign: Campaign) -> None:
        """The file is deleted last, because it shows that the person is in the campaign."""
        if self._is_unread(campaign):
            self.found.waiting.append(campaign.ref.campaign)
            return
        message = self._places.erasing.find(campaign.ref, self._key, batches=campaign.source.batches)
        reported = self._is_reported(campaign)
        self._file(campaign, sure=message is not None or reported)
        if reported:
            self._report(campaign)
        if message is not None and self._message(campaign, message):
            self.found.campaigns.append(campaign.ref.campaign)

    def _is_unread(self, campaign: Campaign) -> bool:
        """Whether rows may still be stored, also by a worker that has not yet seen the cancellation."""
        running = self._places.workflows.get(scheduler_messages.IMPORT, campaign.ref.campaign)
        return campaign.status in _UNREAD or (running is not None and running.status is ExecutionStatus.RUNNING)

    def _message(self, swept: UpdateTarget, message: Message, *, kept: KeptValues = no_values) -> bool:
        """Erase a message. False: a worker is sending its batch and will for long."""
        try:
            if not self._places.erasing.erase(swept, message, kept=kept, alive=self._alive):
                raise ErasureInterrupted
        except StillSending:
            if swept.ref.campaign not in self.found.waiting:
                self.found.waiting.append(swept.ref.campaign)
            return False
        return True

    def _is_reported(self, campaign: Campaign) -> bool:
        for parts in ("rejected/", "work/"):  # leftovers of an interrupted rewrite or import
            self._places.objects.purge(f"{prefix(campaign.ref)}import/{parts}")
        report = campaign.source.rejected_key
        return report is not None and self._traces.in_report(report, spare=_spare(campaign))

    def _report(self, campaign: Campaign) -> None:
        if campaign.source.rejected_key is not None:
            self._traces.take_out_of_report(campaign.source.rejected_key, spare=_spare(campaign))
            self.found.reports.append(campaign.ref.campaign)

    def _file(self, campaign: Campaign, *, sure: bool) -> None:
        """Delete the campaign's copy of its recipients once they are imported, or never will be."""
        key = campaign.source.upload_key
        if key.startswith(prefix(campaign.ref)) and (sure or not campaign.source.batches) and self._places.objects.purge(key):
            self.found.files.append(campaign.ref.campaign)

    def _streams(self) -> Iterator[CampaignRef]:
        made, today = self._owner.created_at, day_of(self._clock.now())
        first = today - _OLDEST_DAYS if made is None else day_of(made) - 1
        return (stream_ref(self._owner, day) for day in range(today + 1, first - 1, -1))

    def _stream(self, ref: CampaignRef) -> None:
        cursor: str | None = None
        while True:
            try:
                page = self._places.messages.list(ref, cursor=cursor, limit=_PAGE)
            except NotFound:  # no messages that day, or already deleted
                return
            for message in page.messages:
                if self._traces.in_cell(message.address):
                    self.found.singles += self._message(_Stream(ref), message, kept=_own_values)
            self._beat()
            cursor = page.cursor
            if cursor is None:
                return

    def _endpoints(self) -> Iterator[str]:
        """Ids of endpoints with deliveries. A removed endpoint's were deleted with it."""
        yield from (endpoint.id for endpoint in self._places.callbacks.list(self._owner.id))
        for campaign in self._campaigns():
            if campaign.spec.callback_url is not None:
                yield CAMPAIGN_PREFIX + campaign.ref.campaign

    def _alive(self) -> bool:
        try:
            self._beat()
        except ErasureInterrupted:
            return False
        return True


def _spare(campaign: Campaign) -> str:
    """The temporary key of a rewritten report, under a prefix that is encrypted too."""
    return f"{prefix(campaign.ref)}export-rejected"


def _own_values(recipient: Recipient) -> str:
    """Keeps of a single message the content id and time."""
    return TransactionalValues.parse(recipient.values)._replace(variables={}).text()


Progress = Callable[[str], None]


def _unseen(_what: str) -> None: ...


class ErasureService:
    def __init__(self, places: ErasureStores, *, tables: Tables, tenants: Tenants, audit: AuditLog, clock: Clock) -> None:
        self._places = places
        self._tables = tables
        self._tenants = tenants
        self._audit = audit
        self._clock = clock

    def key_of(self, tenant: str, text: str) -> Key:
        """The key of an address. Raises `Invalid` for no address, `NotFound` for an unknown tenant."""
        return recipient_key(self._tenants.get(tenant).secret, address.parse_address(text).normalised)

    def erase(
        self,
        tenant: str,
        key: Key,
        *,
        forget_suppression: bool = False,
        actor: str = "operator",
        alive: ShouldContinue = never_stopped,
        progress: Progress = _unseen,
    ) -> ErasureFindings:
        """Erase a person. If the result is not `complete`, because `alive` returned False or something is `waiting`, call again.

        Raises `Conflict` while another erasure of the tenant runs."""
        owner = self._tenants.get(tenant)
        with tenant_lock(self._tables, self._clock, tenant=tenant, work="erasure") as ours:

            def beat() -> None:
                if not alive():
                    raise ErasureInterrupted
                ours.keep()

            work = ErasureRun(self._places, owner, key, beat=beat, clock=self._clock)
            try:
                for step in work.steps(forget_suppression=forget_suppression):
                    progress(step)
                    beat()
            except ErasureInterrupted:
                return work.found
            work.found.complete = not work.found.waiting
            if work.found.complete:
                self._note(tenant, key, actor)
        return work.found

    def _note(self, tenant: str, key: Key, actor: str) -> None:
        entry = AuditRecord(
            id=self._audit.new_id(), actor=actor, address="", action="erase", status=200, target=f"person/{key.hex()}"
        )
        self._audit.write(tenant, entry)
