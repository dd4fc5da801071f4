"""An upload's bytes are there: seen, looked at, and noted in its record. Whoever comes first does it.

Nobody tells us that bytes arrived: the store is asked when somebody asks for the upload, and by housekeeping at last. A crash
before the record is written leaves it waiting, and the next one to ask finds the same bytes: they cannot change.
"""

from __future__ import annotations

from collections.abc import Iterator

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.model.upload import Inspection, Upload, UploadKind, UploadStatus
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.transfers import ArrivedObject, Transfers
from postroom.recipients_file.inspect import inspect
from postroom.recipients_file.layout import HEAD_BYTES
from postroom.services.upload_records import UploadRecords

DAY_MS = 86_400_000
_BLOCK = 1 << 20


class Landings:
    """See the module's text."""

    def __init__(self, records: UploadRecords, objects: Objects, transfers: Transfers, clock: Clock, *, upload_days: int) -> None:
        self._records = records
        self._objects = objects
        self._transfers = transfers
        self._clock = clock
        self._kept_ms = upload_days * DAY_MS

    def settled(self, upload: Upload) -> Upload:
        """The record as it is once somebody has looked whether its bytes are there."""
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
        except Conflict:  # somebody else did: what they noted is the same
            return self._records.get(upload.tenant, upload.id)

    def seen(self, upload: Upload) -> ArrivedObject | None:
        """Whether the bytes of an upload that waits are there."""
        return self._transfers.arrived(upload.object_key) if upload.status is UploadStatus.WAITING else None

    def blocks(self, upload: Upload) -> Iterator[bytes]:
        """The bytes of one that is ready: first the part that tells how it is laid out, then the rest, as asked for."""
        key, version = upload.object_key, upload.object_version
        at, block = 0, self._objects.read(key, 0, HEAD_BYTES, version)
        while block:
            yield block
            at += len(block)
            block = self._objects.read(key, at, _BLOCK, version)

    def _inspection(self, upload: Upload, arrived: ArrivedObject) -> Inspection | None:
        if upload.kind is not UploadKind.RECIPIENTS:
            return None
        return inspect(self._objects.read(upload.object_key, 0, HEAD_BYTES, arrived.version), arrived.size)
