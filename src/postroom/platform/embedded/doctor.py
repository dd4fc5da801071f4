"""Checks of the data directory and of encryption, for `postroom doctor`.

Whether a directory can hold the data: this writes a small trial database and removes it again. SQLite's WAL needs shared memory
and locks that network file systems do not have (https://www.sqlite.org/wal.html), so a share is a failure, not a warning.

Whether everything that should be encrypted is, and whether the master key is private: this only reads. It creates no key and
opens no store.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from postroom.model.finding import Finding, Level
from postroom.platform.embedded._files import disk_errors
from postroom.platform.embedded._sqlite import database_error
from postroom.platform.embedded.secrets import ConfiguredKeys, KeyFile

_SUBJECT = "data directory"
_SQLITE_LEAST = (3, 37, 0)  # STRICT tables
_SPACE_FAIL = 100 << 20
_SPACE_WARN = 2 << 30

_REMOTE = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
    }
)

_MOUNTS = Path("/proc/self/mountinfo")


def check_data_directory(data: Path) -> Iterator[Finding]:
    """Check `data`, which may not exist yet. Raises `StorageFull` or `Unavailable` if it cannot be written."""
    data = data.absolute()
    if data.exists():
        yield Finding(_SUBJECT, Level.OK, f"{data}")
        mode = data.stat().st_mode & 0o077
        if mode:
            yield Finding(
                _SUBJECT, Level.WARN, "others on this machine may read it, people's addresses included", f"chmod 700 {data}"
            )
    else:
        yield Finding(_SUBJECT, Level.OK, f"{data} (not there yet: made when it is first used)")
    nearest = next(parent for parent in (data, *data.parents) if parent.exists())
    yield from _file_system(nearest)
    yield from _space(nearest)
    yield from _sqlite(nearest)


def _file_system(directory: Path) -> Iterator[Finding]:
    kind = file_system(directory, _MOUNTS.read_text("utf-8", "replace")) if _MOUNTS.exists() else None
    if kind is None:
        yield Finding("file system", Level.SKIPPED, "its type is not known", "make sure it is a local disk")
    elif kind in _REMOTE:
        todo = "put POSTROOM_DATA on a local disk: databases on a share are damaged sooner or later"
        yield Finding("file system", Level.FAIL, f"{kind} is a network file system", todo)
    elif kind in {"tmpfs", "ramfs"}:
        yield Finding(
            "file system", Level.WARN, f"{kind} is memory: everything is lost with the power", "put POSTROOM_DATA on a disk"
        )
    else:
        yield Finding("file system", Level.OK, kind)


def file_system(directory: Path, mountinfo: str) -> str | None:
    """The type of file system that holds `directory`, from the text of /proc/self/mountinfo (proc(5)), or None."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        place, separator, source = line.partition(" - ")
        fields = place.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount = Path(fields[4].encode().decode("unicode_escape"))  # a space is written \040
        if directory.is_relative_to(mount) and (best is None or len(mount.parts) >= best[0]):
            best = (len(mount.parts), source.split(" ", 1)[0])
    return best[1] if best else None


def _space(directory: Path) -> Iterator[Finding]:
    with disk_errors(directory):
        free = shutil.disk_usage(directory).free
    text = f"{free / (1 << 30):.1f} GB free"
    if free < _SPACE_FAIL:
        yield Finding("disk space", Level.FAIL, text, "make room: sending stops when the disk is full")
    elif free < _SPACE_WARN:
        yield Finding("disk space", Level.WARN, text, "a million recipients need about 1 GB")
    else:
        yield Finding("disk space", Level.OK, text)


def _sqlite(directory: Path) -> Iterator[Finding]:
    if sqlite3.sqlite_version_info < _SQLITE_LEAST:
        least = ".".join(map(str, _SQLITE_LEAST))
        yield Finding("SQLite", Level.FAIL, f"{sqlite3.sqlite_version} is too old", f"use a Python that brings {least} or newer")
        return
    with disk_errors(directory), tempfile.TemporaryDirectory(prefix=".postroom-doctor-", dir=directory) as trial:
        path = Path(trial) / "trial.db"
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                connection.execute("CREATE TABLE trial (x INTEGER) STRICT")
        except sqlite3.Error as error:
            raise database_error(error, path) or error from error
    if mode == "wal":
        yield Finding("SQLite", Level.OK, f"{sqlite3.sqlite_version}, writes there with a WAL")
    else:
        todo = "put POSTROOM_DATA on a local disk"
        yield Finding("SQLite", Level.FAIL, f"no WAL there (journal mode {mode})", todo)


_KEY = "master key"
_OBJECTS = "objects"


class _Objects(NamedTuple):
    """Numbers of versions in the object store."""

    sealed: int
    clear: int
    """Versions that would be encrypted today and are not."""


def check_encryption(
    keys: ConfiguredKeys | KeyFile, path: Path, *, index: Path, applies: Callable[[str], bool]
) -> Iterator[Finding]:
    """Check the master key and the objects. `path`: where the key is, for display. `index`: the object store's index.

    Raises `Unavailable` if others may use the key, `Corrupt` if it is not a key.
    """
    objects = _count(index, applies) if index.exists() else _Objects(0, 0)
    yield from _key(keys, path, objects)
    if objects.clear:
        text = f"{objects.clear:,} files with people in them are from an earlier release and not encrypted"
        todo = "delete their campaigns when they are over, or keep the data directory on an encrypted disk"
        yield Finding(_OBJECTS, Level.WARN, text, todo)
    else:
        yield Finding(_OBJECTS, Level.OK, f"uploads, recipients and reports are encrypted ({objects.sealed:,} files)")


def _key(keys: ConfiguredKeys | KeyFile, path: Path, objects: _Objects) -> Iterator[Finding]:
    known = keys.all()
    if isinstance(keys, ConfiguredKeys):
        yield Finding(_KEY, Level.OK, "from POSTROOM_MASTER_KEY; it is in no backup", "keep a copy of it elsewhere")
    elif not known and objects.sealed:
        text = f"{path} is missing, and {objects.sealed:,} files are encrypted under it"
        yield Finding(_KEY, Level.FAIL, text, "bring it back from your copy, or set POSTROOM_MASTER_KEY_FILE to where it is")
    elif not known:
        yield Finding(_KEY, Level.OK, f"{path} (not there yet: made when it is first needed)")
    else:
        yield Finding(_KEY, Level.OK, f"{path}", "keep a copy elsewhere: what it encrypts is lost without it")
    if len(known) > 1:
        text = f"{len(known)} are kept: the newest, and what older ones still open"
        yield Finding(_KEY, Level.OK, text, "postroom secrets drop-old, when nothing needs them any more")


def _count(index: Path, applies: Callable[[str], bool]) -> _Objects:
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "version" not in tables:
                return _Objects(0, 0)
            if "sealing" not in tables:  # written before objects were encrypted
                return _Objects(0, sum(applies(key) for (key,) in connection.execute("SELECT key FROM version")))
            (sealed,) = connection.execute("SELECT count(*) FROM sealing").fetchone()
            clear = connection.execute("SELECT key FROM version WHERE id NOT IN (SELECT version FROM sealing)")
            return _Objects(sealed, sum(applies(key) for (key,) in clear))
    except sqlite3.Error as error:
        raise database_error(error, index) or error from error
