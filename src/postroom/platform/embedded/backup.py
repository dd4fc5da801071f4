"""Backup and restore of the data directory: a consistent copy, taken while mail is being sent.

**Order**: files that refer to others are copied first, so that no reference in the copy is newer than what it refers to:
`control.db` (campaigns, queues, timers), the ledgers (messages), the index of objects, the objects' files, and last
the master keys, if they are in the data directory: a copy without them could not be read. Everything a
campaign of the copied control database names was stored before it was named, hence before its copy begins. Excess data in
later files (messages past the campaign's checkpoint, files that no index names) is what a crash leaves too: work
continues from there, or it is swept. Each database is one snapshot (SQLite's online backup in one step,
https://www.sqlite.org/backup.html); objects' files never change.

Journals and locks belong to live processes and are not copied: a group that was open in the copy is in doubt
as a whole. A campaign deleted during the copy may be named in it without its messages.

**Crash**: the manifest is written last, so a directory without one is no backup. A restore is built beside its target and
renamed in one step, so a data directory is never half restored.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import orjson

from postroom import __version__
from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, Invalid, NotFound, StorageFull, Unsupported
from postroom.model.backup import BackupSummary
from postroom.platform.embedded._files import disk_errors, sync_directory
from postroom.platform.embedded._sqlite import database_error
from postroom.platform.embedded.secrets import FILE_NAME as KEY_FILE

MANIFEST = "manifest.json"
_FORMAT = 1
_CHUNK = 1 << 20
_FILES = PurePosixPath("objects/files")
_LARGE_PARTS = ("ledgers", "objects", "objects/files")
"""Parts that may be on another disk, behind a symbolic link."""
_ORDER = ("control.db", "ledgers/", "objects/objects.db", "")
"""Databases are copied in the order of the first of these prefixes that matches."""


class _Entry(NamedTuple):
    """A file of the backup."""

    path: str
    size: int
    sha256: str


class DirectoryArchive:
    """Backups of one data directory."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._data = data
        self._clock = clock

    def write(self, target: Path, progress: Callable[[str], None]) -> BackupSummary:
        """Copy the data directory to `target`, which must be empty or absent; `progress` gets each file's name before its copy.

        Raises `Invalid` if `target` is not usable, `NotFound` if there is no data or a link in it is broken,
        `StorageFull` if it does not fit, `Corrupt` if the data is damaged.
        """
        if not (self._data / _ORDER[0]).is_file():
            raise NotFound(f"{self._data} holds no data of Postroom: there is nothing to back up")
        _check_empty(target)
        parts = (self._data, *(self._data / part for part in _LARGE_PARTS))
        if any(target.resolve().is_relative_to(part.resolve()) for part in parts):
            raise Invalid(f"{target} is inside the data directory: a backup belongs elsewhere, best on another disk")
        with disk_errors(target):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_room(target)
            created_at = self._clock.now()
            entries = [self._copy(name, target, progress) for name in self._names()]
            copied = [entry for entry in entries if entry is not None]
            _write_manifest(target, created_at, copied)
        return _summary(created_at, copied)

    def restore(self, source: Path, prepare: Callable[[Path, Instant], None], progress: Callable[[str], None]) -> BackupSummary:
        """Check the backup in `source` and make it the data directory, which must be empty or absent.

        `prepare` may change the restored data before it appears; it gets its directory and the backup's time. Raises `NotFound`
        if `source` is no finished backup, `Corrupt` if it was changed, `Unsupported` if a newer Postroom wrote it, `Invalid` if
        there is data already.
        """
        created_at, entries = _read_manifest(source)
        _check_empty(self._data)
        target = self._data.absolute()
        building = target.with_name(f".{target.name}.restoring")
        with disk_errors(building):
            if building.exists():
                shutil.rmtree(building)  # of a restore that was killed
            building.mkdir(mode=0o700, parents=True)
            try:
                for entry in entries:
                    progress(entry.path)
                    _restore_file(source, building, entry)
                prepare(building, created_at)
                _sync_tree(building)
                building.rename(target)  # replaces an empty directory
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
            sync_directory(target.parent)
        return _summary(created_at, entries)

    def _names(self) -> Iterator[str]:
        """The files to copy, in order. Each part is listed only when its turn comes (see Order above)."""
        done: set[str] = set()
        for part in _ORDER:
            for path in _files_below(self._data):
                name = path.relative_to(self._data).as_posix()
                if name.endswith(".db") and name.startswith(part) and name not in done:
                    done.add(name)
                    yield name
        for path in _files_below(self._data / _FILES):
            yield path.relative_to(self._data).as_posix()
        if (self._data / KEY_FILE).is_file():
            yield KEY_FILE

    def _copy(self, name: str, target: Path, progress: Callable[[str], None]) -> _Entry | None:
        """The copy, or None for a file that was deleted since it was listed."""
        progress(name)
        source, copy = self._data / name, target / name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if name.endswith(".db"):
                _copy_database(source, copy)
                return _Entry(name, copy.stat().st_size, _hash(copy))
            return _Entry(name, *_copy_file(source, copy))
        except (FileNotFoundError, StorageFull):
            if source.exists():
                raise
            copy.unlink(missing_ok=True)
            return None

    def _check_room(self, target: Path) -> None:
        needed = sum(_size(path) for path in _files_below(self._data))
        free = shutil.disk_usage(target).free
        if needed > free:
            raise StorageFull(
                f"the backup needs about {needed >> 20} MB and {target} has {free >> 20} MB free; nothing was copied"
            )


def _files_below(folder: Path, inside: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file, in order. Symbolic links to other disks are followed."""
    here = folder.resolve()
    if here in inside:
        raise Invalid(f"{folder} leads back to {here}, which it is in: no backup was made; remove that link")
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:  # deleted since it was listed
        return
    for path in paths:
        if path.is_dir():
            yield from _files_below(path, (*inside, here))
        elif path.is_file():
            yield path
        elif path.is_symlink():
            raise NotFound(f"{path} is a broken link: no backup was made; restore its target, or remove the link")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted since it was listed, as journals are all the time
        return 0


def _copy_database(source: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as live,
            closing(sqlite3.connect(copy, isolation_level=None)) as other,
        ):
            live.backup(other)  # all pages in one step: one snapshot, and no writer waits
            other.execute("PRAGMA journal_mode=DELETE")  # one file, without a WAL beside it
            (state,) = other.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise database_error(error, source) or error from error
    if state != "ok":
        raise Corrupt(f"{source} is damaged ({state}): no backup was made; restore an earlier one")
    copy.chmod(0o600)
    _sync_file(copy)


def _copy_file(source: Path, copy: Path) -> tuple[int, str]:
    """Copy and sync. Returns size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
            size += len(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    return size, digest.hexdigest()


def _restore_file(source: Path, building: Path, entry: _Entry) -> None:
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts:
        raise Corrupt(f"the backup in {source} names a file outside it: {entry.path!r}")
    copy = building / path
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = _copy_file(source / path, copy)
    except FileNotFoundError as error:
        raise Corrupt(f"{source / path} is missing from the backup; nothing was restored") from error
    if found != (entry.size, entry.sha256):
        raise Corrupt(f"{source / path} is not what was written to the backup; nothing was restored")


def _write_manifest(target: Path, created_at: Instant, entries: list[_Entry]) -> None:
    files = [entry._asdict() for entry in entries]
    document = {
        "format": _FORMAT,
        "postroom": __version__,
        "created_at": created_at,
        "files": files,
        "sha256": _digest(created_at, files),
    }
    _sync_tree(target)
    unfinished = target / f".{MANIFEST}"
    unfinished.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    _sync_file(unfinished)
    unfinished.rename(target / MANIFEST)
    sync_directory(target)
    sync_directory(target.absolute().parent)


def _read_manifest(source: Path) -> tuple[Instant, list[_Entry]]:
    path = source / MANIFEST
    try:
        document: dict[str, Any] = orjson.loads(path.read_bytes())
        if document["format"] > _FORMAT:
            raise Unsupported(f"{source} was written by a newer Postroom ({document['postroom']}): upgrade first")
        entries = [_Entry(**file) for file in document["files"]]
        intact = document["sha256"] == _digest(document["created_at"], document["files"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{source} holds no finished backup: there is no {MANIFEST}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} cannot be read: {error}; nothing was restored") from error
    if not intact:
        raise Corrupt(f"{path} is not what was written; nothing was restored")
    return Instant(document["created_at"]), entries


def _digest(created_at: int, files: list[dict[str, Any]]) -> str:
    return hashlib.sha256(orjson.dumps([created_at, files], option=orjson.OPT_SORT_KEYS)).hexdigest()


def _summary(created_at: Instant, entries: list[_Entry]) -> BackupSummary:
    return BackupSummary(created_at, len(entries), sum(entry.size for entry in entries))


def _check_empty(directory: Path) -> None:
    with disk_errors(directory):
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise Invalid(f"{directory} is not empty: name a new or empty directory (or delete an unfinished backup there first)")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(root: Path) -> None:
    """Sync all directories. The files are synced as they are written."""
    for directory, _, _ in os.walk(root, topdown=False):
        sync_directory(Path(directory))
