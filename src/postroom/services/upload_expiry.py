"""The end of uploads: recipients files grow old, announced ones never come, somebody deletes one.

    record: expired, nameless → bytes purged → record: look again in a day → bytes purged again → record forgotten in a month

In this order, so that whatever dies in between, the list of what is due still names the upload and the next round goes on; and
a file that arrives while its upload is being given up belongs to an upload that is expired already. The second purge is for a
transfer that had begun with a URL which was still valid: nobody may bring back what was deleted.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, PostroomError
from postroom.model.upload import Upload, UploadStatus
from postroom.platform.ports.objects import Objects
from postroom.services.upload_landing import DAY_MS, Landings
from postroom.services.upload_records import Due, UploadRecords

FORGOTTEN_AFTER_MS = 30 * DAY_MS


class UploadExpiry:
    """See the module's text."""

    def __init__(self, records: UploadRecords, landings: Landings, objects: Objects, clock: Clock) -> None:
        self._records = records
        self._landings = landings
        self._objects = objects
        self._clock = clock

    def expire(self, now: Instant, *, limit: int) -> int:
        """Look at up to `limit` uploads that are due; how many there were: fewer than `limit`, then that was all.

        One that fails keeps nobody waiting: the others are done first, then its error is raised."""
        entries = list(islice(self._records.due(now), limit))
        failed: PostroomError | None = None
        for entry in entries:
            try:
                self._look_at(entry, now)
            except (Conflict, NotFound):  # somebody changed it just now: the next round sees it as it is then
                continue
            except PostroomError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return len(entries)

    def retire(self, upload: Upload, *, deleted: bool) -> None:
        """End it now. `Conflict`: it was changed since it was read."""
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

    def _look_at(self, entry: Due, now: Instant) -> None:
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
        """The bytes, for the first or the second time."""
        self._objects.purge(upload.object_key)
        now = self._clock.now()
        with suppress(Conflict):  # somebody else ends it too, and did or will do this
            if upload.purged:
                self._records.change(upload, due=None, forget_at=Instant(now + FORGOTTEN_AFTER_MS))
            else:
                self._records.change(upload, purged=True, due=Instant(now + DAY_MS))
