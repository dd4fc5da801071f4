"""Uploads: announce a file, transfer its bytes by a presigned URL, inspect it, use it.

An upload is created under an id that the caller chose (`new_id`), once: the same call again finds the record and returns a
fresh URL. Rows of a recipients file are read from the file each time; the record holds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Invalid, NotFound, TooLarge
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.collection import ListPage
from postroom.model import ids
from postroom.model.campaign import CampaignStatus
from postroom.model.upload import MAX_BYTES, ReadyUpload, Upload, UploadKind, UploadStatus, is_upload_id, safe_filename
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables
from postroom.platform.ports.transfers import PresignedRequest, Transfers
from postroom.recipients_file.layout import named_rows, read_header
from postroom.services.upload_records import DAY_MS, UploadArrivals, UploadExpiry, UploadRecords

PUT_MS = 3_600_000
GET_MS = 600_000
WAITING_MS = DAY_MS
"""An upload that does not arrive within this time is given up; its URLs expire no later."""
SAMPLE_ROWS = 5
MAX_ROW = 1_000
_TRIES = 5
_CELL_SHOWN = 200
UploadInUse = Callable[[str, str], bool]
"""Whether a tenant's upload is still needed: tenant, upload id."""


@dataclass(frozen=True, slots=True)
class Announcement:
    kind: UploadKind
    filename: str
    content_type: str
    size: int
    """Bytes."""
    sha256: str | None = None
    """Hex; None: not checked."""


class Announced(NamedTuple):
    """The record, and the presigned request for the bytes."""

    upload: Upload
    signed: PresignedRequest


class UploadService:
    def __init__(
        self,
        tables: Tables,
        objects: Objects,
        transfers: Transfers,
        clock: Clock,
        *,
        upload_days: int,
        in_use: UploadInUse | None = None,
    ) -> None:
        self._records = UploadRecords(tables)
        self._transfers = transfers
        self._clock = clock
        self._in_use = in_use
        self._landings = UploadArrivals(self._records, objects, transfers, clock, upload_days=upload_days)
        self._expiry = UploadExpiry(self._records, self._landings, objects, clock)

    def new_id(self) -> str:
        """An unused id."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def create(self, tenant: str, upload_id: str, what: Announcement, *, author: str) -> Announced:
        """Announce an upload. With the same id again: the same upload with a fresh URL.

        Raises `TooLarge`; `Conflict` if the id belongs to another upload, or to one announced more than a day ago."""
        upload = self._new(tenant, upload_id, what, author)
        try:
            upload = self._records.create(upload)
        except Conflict:
            upload = self._same(upload)
        expires_at = min(self._clock.now() + PUT_MS, upload.created_at + WAITING_MS)
        if expires_at <= self._clock.now() or upload.status is UploadStatus.EXPIRED:
            raise Conflict(f"upload {upload_id} was announced too long ago: announce it anew")
        signed = self._transfers.put(
            upload.object_key,
            size=upload.size,
            content_type=upload.content_type,
            expires_at=Instant(expires_at),
            sha256=upload.sha256,
        )
        return Announced(upload, signed)

    def get(self, tenant: str, upload_id: str) -> Upload:
        """Raises `NotFound`."""
        return self._landings.settled(self._records.get(tenant, upload_id))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[Upload]:
        """Uploads, newest first. One that has just arrived is `ready`, without an inspection until it is read by `get`."""
        page = self._records.list(tenant, cursor=cursor, limit=limit)
        return ListPage[Upload]([self._as_seen(upload) for upload in page.items], page.cursor)

    def ready(self, tenant: str, upload_id: str, kind: UploadKind) -> ReadyUpload:
        """An upload for use as `kind`. Raises `NotFound`, or `Invalid` for another kind, not ready, expired or unusable."""
        upload = self._arrived(tenant, upload_id)
        if upload.kind is not kind:
            raise Invalid(f"upload {upload.id} is of the kind {upload.kind}, not {kind}: announce it as {kind}")
        if upload.inspection is not None and not upload.inspection.rows:  # no import could read it to its end
            raise Invalid(f"upload {upload.id}: {upload.inspection.problems[-1]}")
        return ReadyUpload(
            id=upload.id,
            kind=upload.kind,
            object_key=upload.object_key,
            object_version=upload.object_version or "",
            filename=upload.filename,
            content_type=upload.content_type,
            size=upload.size,
        )

    def content(self, tenant: str, upload_id: str) -> PresignedRequest:
        """A download URL. Raises as `ready`."""
        upload = self._arrived(tenant, upload_id)
        expires_at = Instant(self._clock.now() + GET_MS)
        return self._transfers.get(
            upload.object_key, filename=upload.filename, content_type=upload.content_type, expires_at=expires_at
        )

    def sample(self, upload: Upload) -> Sequence[dict[str, str]]:
        """The first rows of a ready recipients file, long cells cut; fewer if it becomes unreadable."""
        rows: list[dict[str, str]] = []
        if upload.status is UploadStatus.READY and upload.inspection is not None:
            columns = len(upload.inspection.columns)
            with suppress(Invalid):  # the inspection names the reason
                rows.extend(_cut(row, columns) for row in islice(self._rows(upload), SAMPLE_ROWS))
        return rows

    def row(self, tenant: str, upload_id: str, number: int) -> dict[str, str]:
        """Row `number` (1 to 1,000) of a recipients file, by column. Raises `NotFound`, `Invalid`."""
        if not 1 <= number <= MAX_ROW:
            raise Invalid(f"row {number} is out of range: 1 to {MAX_ROW}")
        self.ready(tenant, upload_id, UploadKind.RECIPIENTS)
        row = next(islice(self._rows(self._records.get(tenant, upload_id)), number - 1, None), None)
        if row is None:
            raise NotFound(f"upload {upload_id} has no row {number}")
        return row

    def delete(self, tenant: str, upload_id: str) -> None:
        """Delete the upload and its bytes. Raises `NotFound`, or `Conflict` if it is in use."""
        for _ in range(_TRIES):
            upload = self._records.get(tenant, upload_id)
            if self._in_use is not None and self._in_use(tenant, upload_id):
                raise Conflict(f"upload {upload_id} is in use by a campaign that has not ended")
            with suppress(Conflict):  # it has just arrived or ended
                return self._expiry.retire(upload, deleted=True)
        raise Conflict(f"upload {upload_id} is being changed by others all the time; try again")

    def expire(self, now: Instant, *, limit: int = 100) -> int:
        """Maintenance for all tenants (services.upload_records). Call until it returns less than `limit`."""
        return self._expiry.expire(now, limit=limit)

    def _new(self, tenant: str, upload_id: str, what: Announcement, author: str) -> Upload:
        most = MAX_BYTES[what.kind]
        if what.size > most:
            raise TooLarge(f"a file of {what.size:,} bytes is too large: up to {most:,} bytes for the kind {what.kind}")
        if not is_upload_id(upload_id) or what.size < 1:
            raise Invalid("an upload has an id of 16 characters and at least one byte")
        now = self._clock.now()
        return Upload(
            tenant=tenant,
            id=upload_id,
            kind=what.kind,
            filename=safe_filename(what.filename),
            content_type=what.content_type,
            size=what.size,
            sha256=what.sha256,
            author=author,
            created_at=now,
            due=Instant(now + WAITING_MS),
        )

    def _same(self, upload: Upload) -> Upload:
        """The record with this id. Raises `Conflict` if something else was announced."""
        found = self._records.find(upload.tenant, upload.id)
        if found is None or found.deleted or _facts(found) != _facts(upload):
            raise Conflict(f"the id {upload.id} belongs to another upload")
        return found

    def _as_seen(self, upload: Upload) -> Upload:
        return upload if self._landings.seen(upload) is None else replace(upload, status=UploadStatus.READY)

    def _arrived(self, tenant: str, upload_id: str) -> Upload:
        upload = self.get(tenant, upload_id)
        if upload.status is UploadStatus.WAITING:
            raise Invalid(f"upload {upload_id} has not arrived yet: send its bytes to the URL that came with it")
        if upload.status is UploadStatus.EXPIRED:
            raise Invalid(f"upload {upload_id} has expired: upload the file again")
        return upload

    def _rows(self, upload: Upload) -> Iterator[dict[str, str]]:
        blocks = self._landings.blocks(upload)
        head = next(blocks, b"")
        return named_rows(chain([head], blocks), read_header(head, whole=len(head) == upload.size))


def _facts(upload: Upload) -> tuple[object, ...]:
    return upload.kind, upload.filename, upload.content_type, upload.size, upload.sha256


def _cut(row: dict[str, str], columns: int) -> dict[str, str]:
    return {name[:_CELL_SHOWN]: cell[:_CELL_SHOWN] for name, cell in islice(row.items(), columns)}


_READING = frozenset({CampaignStatus.DRAFT, CampaignStatus.IMPORTING})


class UploadUsage:
    """An `UploadInUse`. Attachments are copied when a campaign is created, recipients when they are imported."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns

    def __call__(self, tenant: str, upload_id: str) -> bool:
        """Reads only campaigns created after the upload: both ids begin with their time."""
        cursor: str | None = None
        while True:
            page = self._campaigns.list(tenant, cursor=cursor)
            for campaign in page.items:
                if campaign.ref.campaign < upload_id:
                    return False
                if campaign.spec.upload_id == upload_id and campaign.status in _READING:
                    return True
            cursor = page.cursor
            if cursor is None:
                return False
