"""Upload records, and the one list of all tenants' uploads that housekeeping must look at, in the order of their time.

A record and its entry in that list change in one write: no crash leaves an upload that nobody will ever look at. Each change is
conditional on the version that was read; the loser of a race gets `Conflict` and reads again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Instant
from postroom.errors import Corrupt, NotFound
from postroom.ledger.collection import every
from postroom.model.upload import Upload, is_upload_id
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

_DUE = "#uploads-by-expiry"


class UploadPage(NamedTuple):
    """Part of a list, newest first. `cursor` asks for the next part."""

    uploads: list[Upload]
    cursor: str | None


class Due(NamedTuple):
    """An entry of the list."""

    tenant: str
    id: str
    at: Instant


class UploadRecords:
    """The uploads of all tenants."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def create(self, upload: Upload) -> Upload:
        """Store a new record. `Conflict`: the id is taken."""
        return self._put(upload, Expect.ABSENT, [_listed(upload)] if upload.due is not None else [])

    def get(self, tenant: str, upload: str) -> Upload:
        """The record as it is now. `NotFound`: there is none, or somebody deleted it."""
        found = self.find(tenant, upload)
        if found is None or found.deleted:
            raise NotFound(f"there is no upload {upload[:40]!r}")
        return found

    def find(self, tenant: str, upload: str) -> Upload | None:
        """The record, also of one that was deleted."""
        item = self._tables.get(_key(tenant, upload)) if is_upload_id(upload) else None
        return None if item is None else _upload(item)

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> UploadPage:
        """A tenant's uploads, newest first, without the deleted ones: a page may be short."""
        page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit, reverse=True)
        uploads = map(_upload, page.items)
        return UploadPage([upload for upload in uploads if not upload.deleted], page.cursor)

    def change(self, upload: Upload, *, forget_at: Instant | None = None, **fields: Any) -> Upload:
        """Replace fields of the record as it was read; the new record. `forget_at`: then the record itself is gone."""
        changed = replace(upload, **fields)
        moves: list[Write] = []
        if changed.due != upload.due:
            moves += [Delete(_listed(upload).key)] if upload.due is not None else []
            moves += [_listed(changed)] if changed.due is not None else []
        return self._put(changed, upload.version, moves, forget_at)

    def due(self, now: Instant) -> Iterator[Due]:
        """What must be looked at by `now`, the longest overdue first."""
        entries = (
            Due(item.data["tenant"], item.data["id"], Instant(item.data["at"])) for item in every(self._tables, _DUE, at_once=100)
        )
        return takewhile(lambda entry: entry.at <= now, entries)

    def unlist(self, entry: Due) -> None:
        """Take an entry off the list whose record is gone, or is due at another time."""
        self._tables.write([Delete(_due_key(entry))])

    def _put(self, upload: Upload, expect: Expect | int, moves: Sequence[Write], forget_at: Instant | None = None) -> Upload:
        data = msgspec.to_builtins(upload)
        del data["version"]
        versions = self._tables.write([Put(_key(upload.tenant, upload.id), data, expect, forget_at), *moves])
        return replace(upload, version=versions[0])


def _listed(upload: Upload) -> Put:
    entry = Due(upload.tenant, upload.id, upload.due or Instant(0))
    return Put(_due_key(entry), entry._asdict())


def _due_key(entry: Due) -> ItemKey:
    return ItemKey(_DUE, f"{entry.at:014d}#{entry.tenant}#{entry.id}")


def _partition(tenant: str) -> str:
    return f"{tenant}#uploads"


def _key(tenant: str, upload: str) -> ItemKey:
    return ItemKey(_partition(tenant), upload)


def _upload(item: Item) -> Upload:
    try:
        return msgspec.convert({**item.data, "version": item.version}, Upload)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of upload {item.key.sort} cannot be read: {error}") from error
