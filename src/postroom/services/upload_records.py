"""Upload records: stored, marked as arrived, and expired.

A record and its entry in the list of due uploads change in one write, so a crash leaves no upload that maintenance never looks
at. Each change is conditional on the version that was read; the loser of a race gets `Conflict`.

Arrival: the object store does not notify. It is asked when the upload is asked for, and by maintenance. A crash before the
record is written leaves it waiting; the next look finds the same bytes.

Expiry: old recipients files, announced uploads that never arrive, deleted ones:

    record: expired, nameless → bytes purged → record: look again in a day → bytes purged again → record forgotten in a month

After a crash in between, the entry still names the upload and the next run continues. The second purge is for a transfer that
began with a URL that was still valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, PostroomError
from postroom.ledger.collection import VERSION, Collection, ListPage, iterate_items
from postroom.model.upload import Inspection, Upload, UploadKind, UploadStatus, is_upload_id
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables, Write
from postroom.platform.ports.transfers import ArrivedObject, Transfers
from postroom.recipients_file.layout import HEAD_BYTES, inspect_file

_DUE = "#uploads-by-expiry"


class DueUpload(NamedTuple):
    tenant: str
    id: str
    at: Instant


class UploadRecords:
    """The uploads of all tenants."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._records = Collection(tables, Upload, "upload", derived=VERSION)

    def create(self, upload: Upload) -> Upload:
        """Store a new record. Raises `Conflict` if the id is taken."""
        return self._put(upload, Expect.ABSENT, [_listed(upload)] if upload.due is not None else [])

    def get(self, tenant: str, upload: str) -> Upload:
        """The record. Raises `NotFound` if there is none or it was deleted."""
        found = self.find(tenant, upload)
        if found is None or found.deleted:
            raise NotFound(f"there is no upload {upload[:40]!r}")
        return found

    def find(self, tenant: str, upload: str) -> Upload | None:
        """The record, even if deleted; None if there is none."""
        return self._records.find(_key(tenant, upload)) if is_upload_id(upload) else None

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[Upload]:
        """A tenant's uploads, newest first, without deleted ones: a page may be short."""
        page = self._records.page(_partition(tenant), cursor=cursor, limit=limit, reverse=True)
        return ListPage([upload for upload in page.items if not upload.deleted], page.cursor)

    def change(self, upload: Upload, *, forget_at: Instant | None = None, **fields: Any) -> Upload:
        """Replace fields of the record and return it. `forget_at`: when the record itself expires. Raises `Conflict`."""
        changed = replace(upload, **fields)
        moves: list[Write] = []
        if changed.due != upload.due:
            moves += [Delete(_listed(upload).key)] if upload.due is not None else []
            moves += [_listed(changed)] if changed.due is not None else []
        return self._put(changed, upload.version, moves, forget_at)

    def due(self, now: Instant) -> Iterator[DueUpload]:
        """Uploads due for maintenance by `now`, longest overdue first."""
        entries = (
            DueUpload(item.data["tenant"], item.data["id"], Instant(item.data["at"]))
            for item in iterate_items(self._tables, _DUE, at_once=100)
        )
        return takewhile(lambda entry: entry.at <= now, entries)

    def unlist(self, entry: DueUpload) -> None:
        """Remove a stale entry: its record is gone or due at another time."""
        self._tables.write([Delete(_due_key(entry))])

    def _put(self, upload: Upload, expect: Expect | int, moves: Sequence[Write], forget_at: Instant | None = None) -> Upload:
        return self._records.put(_key(upload.tenant, upload.id), upload, expect, also=moves, expires_at=forget_at)


def _listed(upload: Upload) -> Put:
    entry = DueUpload(upload.tenant, upload.id, upload.due or Instant(0))
    return Put(_due_key(entry), entry._asdict())


def _due_key(entry: DueUpload) -> ItemKey:
    return ItemKey(_DUE, f"{entry.at:014d}#{entry.tenant}#{entry.id}")


def _partition(tenant: str) -> str:
    return f"{tenant}#uploads"


def _key(tenant: str, upload: str) -> ItemKey:
    return ItemKey(_partition(tenant), upload)


DAY_MS = 86_400_000
_BLOCK = 1 << 20


class UploadArrivals:
    def __init__(self, records: UploadRecords, objects: Objects, transfers: Transfers, clock: Clock, *, upload_days: int) -> None:
        self._records = records
        self._objects = objects
        self._transfers = transfers
        self._clock = clock
        self._kept_ms = upload_days * DAY_MS

    def settled(self, upload: Upload) -> Upload:
        """The record, after checking whether its bytes have arrived."""
        arrived = self.seen(upload)
        if arrived is None:
            return upload
        try:
            return self._records.change(
                upload,
                status=UploadStatus.READY,
                arrived_at=self._clock.now(),
                object_version=arrived.version,
                inspection=self._inspection(upload, arrived),
                due=Instant(upload.created_at + self._kept_ms) if upload.kind is UploadKind.RECIPIENTS else None,
            )
        except Conflict:  # another caller recorded the same
            return self._records.get(upload.tenant, upload.id)

    def seen(self, upload: Upload) -> ArrivedObject | None:
        """The object of an upload that is waiting, or None if it has not arrived."""
        return self._transfers.arrived(upload.object_key) if upload.status is UploadStatus.WAITING else None

    def blocks(self, upload: Upload) -> Iterator[bytes]:
        """The bytes of a ready upload: first the part used to detect its layout, then the rest, read on demand."""
        key, version = upload.object_key, upload.object_version
        at, block = 0, self._objects.read(key, 0, HEAD_BYTES, version)
        while block:
            yield block
            at += len(block)
            block = self._objects.read(key, at, _BLOCK, version)

    def _inspection(self, upload: Upload, arrived: ArrivedObject) -> Inspection | None:
        if upload.kind is not UploadKind.RECIPIENTS:
            return None
        return inspect_file(self._objects.read(upload.object_key, 0, HEAD_BYTES, arrived.version), arrived.size)


FORGOTTEN_AFTER_MS = 30 * DAY_MS


class UploadExpiry:
    def __init__(self, records: UploadRecords, landings: UploadArrivals, objects: Objects, clock: Clock) -> None:
        self._records = records
        self._landings = landings
        self._objects = objects
        self._clock = clock

    def expire(self, now: Instant, *, limit: int) -> int:
        """Process up to `limit` uploads that are due; returns how many. Fewer than `limit` means that was all.

        A failing upload does not stop the others; its error is raised at the end."""
        entries = list(islice(self._records.due(now), limit))
        failed: PostroomError | None = None
        for entry in entries:
            try:
                self._look_at(entry, now)
            except (Conflict, NotFound):  # changed just now: the next run sees the new version
                continue
            except PostroomError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return len(entries)

    def retire(self, upload: Upload, *, deleted: bool) -> None:
        """Expire it now. Raises `Conflict` if it was changed since it was read."""
        gone = self._records.change(
            upload,
            status=UploadStatus.EXPIRED,
            deleted=deleted,
            purged=False,
            filename="",
            author="",
            sha256=None,
            inspection=None,
            object_version=None,
            due=self._clock.now(),
        )
        self._purge(gone)

    def _look_at(self, entry: DueUpload, now: Instant) -> None:
        upload = self._records.find(entry.tenant, entry.id)
        if upload is None or upload.due != entry.at:
            self._records.unlist(entry)
        elif upload.status is UploadStatus.EXPIRED:
            self._purge(upload)
        else:
            upload = self._landings.settled(upload)
            if upload.due is not None and upload.due <= now:
                self.retire(upload, deleted=False)

    def _purge(self, upload: Upload) -> None:
        """Purge the bytes, for the first or the second time."""
        self._objects.purge(upload.object_key)
        now = self._clock.now()
        with suppress(Conflict):  # another process ends it too, and does the same
            if upload.purged:
                self._records.change(upload, due=None, forget_at=Instant(now + FORGOTTEN_AFTER_MS))
            else:
                self._records.change(upload, purged=True, due=Instant(now + DAY_MS))
