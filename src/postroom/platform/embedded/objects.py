"""`ports.objects` on one machine: an index in SQLite, small content in it, large content in files.

An object that the index does not name does not exist: a version becomes visible, whole and durable, with one commit. Small
content (most mails and templates) is part of that commit and costs one sync. Large content is a synced file
that is moved to its place within the commit (_object_files.py says what a crash leaves and how it is swept). Content with
personal data is encrypted (_encryption.py): its wrapped data key is part of the same commit.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from postroom.platform.embedded._encryption import ENCRYPTION_SCHEMA, ObjectEncryption, decrypted, encrypted, rewrap_all
from postroom.platform.embedded._files import disk_errors
from postroom.platform.embedded._object_files import IncomingContent, ObjectFiles, check_digest, checked_stream
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import check_page, cursor_after, parse_cursor
from postroom.platform.ports.objects import ObjectInfo, ObjectPage, check_object_key, check_object_prefix
from postroom.platform.ports.secrets import DataKey

SMALL_BYTES = 64 * 1024
"""Content up to this size is stored in the index."""

_MIGRATIONS = (
    """
    -- All versions. Content is in the file of that name, or in `body`, the last column, which is read only if needed.
    CREATE TABLE version (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        key          TEXT    NOT NULL,
        size         INTEGER NOT NULL,
        sha256       TEXT    NOT NULL,
        content_type TEXT    NOT NULL,
        stored_at    INTEGER NOT NULL,
        file         TEXT    UNIQUE,
        body         BLOB
    ) STRICT;

    CREATE INDEX version_by_key ON version (key, id);

    -- The visible keys and their newest version. A key without a row here that has versions was deleted.
    CREATE TABLE current (
        key     TEXT    NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """
    + ENCRYPTION_SCHEMA,
)

_COLUMNS = "version.id, version.key, size, sha256, content_type, stored_at, file"
_CURRENT = f"SELECT {_COLUMNS} FROM current JOIN version ON version.id = current.version WHERE current.key = ?"
_VERSION = f"SELECT {_COLUMNS} FROM version WHERE key = ? AND id = ?"
_VERSIONS = f"SELECT {_COLUMNS} FROM version WHERE key = ? ORDER BY id DESC"
_LIST = f"""
SELECT {_COLUMNS} FROM current JOIN version ON version.id = current.version
WHERE current.key > ? AND current.key >= ? AND current.key < ? ORDER BY current.key LIMIT ?
"""
_STORE = "INSERT INTO version (key, size, sha256, content_type, stored_at, file, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SHOW = "INSERT OR REPLACE INTO current (key, version) VALUES (?, ?)"
_HIDE = "DELETE FROM current WHERE key = ?"
_SEAL = "INSERT INTO sealing (version, wrapped) VALUES (?, ?)"
_WRAPPED = "SELECT wrapped FROM sealing WHERE version = ?"
_BODY = "SELECT body FROM version WHERE id = ?"
_FILE_KNOWN = "SELECT 1 FROM version WHERE file = ?"

# In portions, so that no other writer waits long for the lock.
_PURGE = "DELETE FROM version WHERE id IN (SELECT id FROM version WHERE key >= ? AND key < ? LIMIT 500) RETURNING file"
_HIDE_ALL = "DELETE FROM current WHERE key >= ? AND key < ?"
_VERSION_DIGITS = 19  # fewer fit SQLite's integers
_AFTER_ALL = "\x7f"  # above every character of a key


class _Stored(NamedTuple):
    """A row of the index."""

    id: int
    key: str
    size: int
    sha256: str
    content_type: str
    stored_at: int
    file: str | None

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(self.key, str(self.id), self.size, self.sha256, self.content_type, Instant(self.stored_at))


class FileObjects:
    """`ports.objects.Objects` in one directory."""

    def __init__(self, root: Path, clock: Clock, *, sealing: ObjectEncryption | None = None) -> None:
        """Create what is missing under `root`, and delete what crashed writers left. Without `sealing` all is stored in clear."""
        self._database = Database(root / "objects.db", _MIGRATIONS)
        self._clock = clock
        self._sealing = sealing
        try:
            with self._database.write() as connection:
                self._spool = ObjectFiles(root, secrets.token_hex(16))
                _sweep(connection, self._spool)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the index. Open streams stay open."""
        self._spool.close()
        self._database.close()

    def put(
        self,
        key: str,
        content: bytes | BinaryIO | Iterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
    ) -> ObjectInfo:
        check_object_key(key)
        if if_absent:  # before any content is read; checked again at the commit
            with self._database.read() as connection:
                _check_absent(connection, key)
        incoming = IncomingContent(content, small=SMALL_BYTES)
        data_key = self._sealing.new_key(key) if self._sealing else None
        if incoming.small is not None:
            return self._commit(key, incoming, content_type, if_absent=if_absent, data_key=data_key)
        chunks = incoming.chunks() if data_key is None else encrypted(incoming.chunks(), data_key.plain)
        with self._spool.staged(chunks) as staged:
            return self._commit(key, incoming, content_type, if_absent=if_absent, data_key=data_key, staged=staged)

    def get(self, key: str, version: str | None = None) -> bytes:
        stored, content = self._content(key, version)
        with disk_errors(key), content:
            raw = content.read()
        check_digest(key, hashlib.sha256(raw).hexdigest(), stored.sha256)
        return raw

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        stored, content = self._content(key, version)
        return checked_stream(content, key, stored.sha256)

    def read(self, key: str, start: int, length: int, version: str | None = None) -> bytes:
        if start < 0 or length < 0:
            raise Invalid(f"There is no range of {length} bytes from {start}.")
        _, content = self._content(key, version)
        with disk_errors(key), content:
            content.seek(start)
            return content.read(length)

    def info(self, key: str, version: str | None = None) -> ObjectInfo | None:
        check_object_key(key)
        with self._database.read() as connection:
            stored = _find(connection, key, version)
        return None if stored is None else stored.info

    def versions(self, key: str) -> list[ObjectInfo]:
        check_object_key(key)
        with self._database.read() as connection:
            return [_Stored(*row).info for row in connection.execute(_VERSIONS, (key,))]

    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 100) -> ObjectPage:
        check_object_prefix(prefix)
        check_page(limit)
        after = "" if cursor is None else parse_cursor(cursor)
        with self._database.read() as connection:
            rows = connection.execute(_LIST, (after, prefix, prefix + _AFTER_ALL, limit + 1)).fetchall()
        shown = [_Stored(*row).info for row in rows[:limit]]
        return ObjectPage(shown, cursor_after(shown[-1].key) if len(rows) > limit else None)

    def delete(self, key: str) -> None:
        check_object_key(key)
        with self._database.write() as connection:
            connection.execute(_HIDE, (key,))

    def purge(self, prefix: str) -> int:
        check_object_prefix(prefix)
        if not prefix:
            raise Invalid("Purging everything needs at least one character of a prefix.")
        bounds = (prefix, prefix + _AFTER_ALL)
        purged = 0
        while True:
            with self._database.write() as connection:
                connection.execute(_HIDE_ALL, bounds)
                files = [file for (file,) in connection.execute(_PURGE, bounds).fetchall()]
            self._spool.remove(file for file in files if file is not None)
            if not files:
                return purged
            purged += len(files)

    def reseal(self) -> tuple[int, int]:
        """Wrap every data key under the newest master key. Returns how many were rewrapped, and how many cannot be."""
        return rewrap_all(self._database, self._sealing) if self._sealing else (0, 0)

    def _commit(
        self,
        key: str,
        incoming: IncomingContent,
        content_type: str,
        *,
        if_absent: bool,
        data_key: DataKey | None,
        staged: Path | None = None,
    ) -> ObjectInfo:
        """Make the version visible. A file that was moved but not committed is deleted, by the next sweep at the latest."""
        name = None if staged is None else secrets.token_hex(16)
        body = incoming.small
        if body is not None and data_key is not None:
            body = b"".join(encrypted([body], data_key.plain))
        try:
            with self._database.write() as connection:
                if if_absent:
                    _check_absent(connection, key)
                now = self._clock.now()
                row = (key, incoming.size, incoming.sha256, content_type, now, name, body)
                identity = connection.execute(_STORE, row).lastrowid or 0
                if data_key is not None:
                    connection.execute(_SEAL, (identity, data_key.wrapped))
                connection.execute(_SHOW, (key, identity))
                if staged is not None and name is not None:
                    self._spool.place(staged, name)
        except BaseException:
            self._spool.remove([name] if name is not None else [])
            raise
        return ObjectInfo(key, str(identity), incoming.size, incoming.sha256, content_type, now)

    def _content(self, key: str, version: str | None) -> tuple[_Stored, BinaryIO]:
        check_object_key(key)
        with self._database.read() as connection:
            stored = _find(connection, key, version)
            if stored is None:
                raise NotFound(f"There is no object {key}{f' of version {version}' if version else ''}.")
            sealed = connection.execute(_WRAPPED, (stored.id,)).fetchone()
            body = None if stored.file else io.BytesIO(connection.execute(_BODY, (stored.id,)).fetchone()[0])
        data_key = self._data_key(stored.key, *sealed) if sealed else None
        content = body or self._open_file(stored)
        if data_key is None:
            return stored, content
        return stored, decrypted(content, data_key, key=stored.key, size=stored.size)

    def _data_key(self, key: str, wrapped: str) -> bytes:
        if self._sealing is None:
            raise Unavailable(f"Object {key} is encrypted, and the master key is not available.")
        return self._sealing.unwrap(key, wrapped)

    def _open_file(self, stored: _Stored) -> BinaryIO:
        try:
            with disk_errors(stored.key):
                return self._spool.path(stored.file or "").open("rb")
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            if self.info(stored.key, str(stored.id)) is None:
                raise NotFound(f"Object {stored.key} was purged just now.") from error
            raise Corrupt(f"The content of object {stored.key} is missing. Restore it from a backup.") from error


def _sweep(connection: sqlite3.Connection, spool: ObjectFiles) -> None:
    """Delete what crashed writers left: under the write lock, a file that the index does not name belongs to no writer."""
    try:
        spool.sweep_staging()
        spool.remove([name for name in spool.names() if connection.execute(_FILE_KNOWN, (name,)).fetchone() is None])
    except BaseException:
        spool.close()
        raise


def _find(connection: sqlite3.Connection, key: str, version: str | None) -> _Stored | None:
    if version is None:
        row = connection.execute(_CURRENT, (key,)).fetchone()
    elif version.isascii() and version.isdigit() and len(version) < _VERSION_DIGITS:
        row = connection.execute(_VERSION, (key, int(version))).fetchone()
    else:
        row = None
    return None if row is None else _Stored(*row)


def _check_absent(connection: sqlite3.Connection, key: str) -> None:
    if connection.execute(_CURRENT, (key,)).fetchone() is not None:
        raise Conflict(f"There is an object {key} already.")
