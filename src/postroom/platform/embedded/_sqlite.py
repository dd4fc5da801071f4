"""Opens SQLite databases: durable, shared by threads and processes, with a checked format and errors from `postroom.errors`.

- **Durable**: WAL. With `synchronous=FULL` a committed transaction survives a power cut; with `NORMAL` it survives a killed
  process, but a power cut may lose the last moments (https://www.sqlite.org/pragma.html#pragma_synchronous).
- **Writers** take a file lock before SQLite's own. A killed process releases it, and it names its holder.
- **Connections**: one connection writes, guarded by a lock. Reading connections come from a pool and see one snapshot each, so
  a long export never delays a commit, and threads that come and go leak nothing.
- **Format**: `PRAGMA user_version` holds the file's format, one integer. The first migration makes a file of `FIRST_FORMAT`, each
  further one raises the format by one. A file of a lower or higher format is refused with `Unsupported`, unchanged.
- **A crash** at any line leaves the last committed state. SQLite recovers it when the file is next opened.

Do not use a `Database` across a fork: open it in the child.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from postroom.errors import Corrupt, PostroomError, StorageFull, TooLarge, Unavailable, Unsupported
from postroom.platform.embedded._files import FileLock, disk_errors, sync_directory

Synchronous = Literal["FULL", "NORMAL"]
SIDE_FILES = ("-wal", "-shm", "-lock")
"""Suffixes of the files beside a database."""
FIRST_FORMAT = 3
"""The oldest format that this release reads. Formats 1 and 2 were never released."""
_BUSY_TIMEOUT_S = 10.0  # only for programs that do not take our file lock: the sqlite3 shell, a backup
_CACHED_STATEMENTS = 512
_LEAST_ROOM_BYTES = 65_536
_IDLE_READERS = 4
_CHECKPOINT_PAGES = 4_000  # 16 MB of WAL: a checkpoint costs two syncs, so not every 4 MB
_WAL_KEPT_BYTES = 64 * 1024 * 1024
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_FULL_IO_CODES = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN})
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OUT_OF_REACH_CODES = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT})


def database_error(error: sqlite3.Error, path: Path) -> PostroomError | None:
    """The error from `postroom.errors` that SQLite's error means; None if the mistake is in our own SQL: raise it as it is.

    Codes: https://www.sqlite.org/rescode.html
    """
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in _FULL_CODES or code in _FULL_IO_CODES:
        reason = "the disk is full" if _is_full(path) else str(error)  # SQLite may call that an I/O error
        return StorageFull(f"Cannot write {path}: {reason}. Make room or give permission, then go on; nothing was changed.")
    if primary in _BUSY_CODES:
        return Unavailable(f"{path} is in use by another program: {error}.")
    if primary in _CORRUPT_CODES:
        return Corrupt(f"{path} is damaged or no database of Postroom: {error}. Restore it from a backup.")
    if primary in _OUT_OF_REACH_CODES:
        return Unavailable(f"Cannot use {path}: {error}.")
    if primary == sqlite3.SQLITE_TOOBIG:
        return TooLarge(f"A value is too large for {path}: {error}.")
    return None


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(path.parent).free < _LEAST_ROOM_BYTES
    return False


class Database:
    """One SQLite file. Threads may share it."""

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        synchronous: Synchronous = "FULL",
        cache_kib: int = 8_192,
        mmap_bytes: int = 0,
        checkpoint_pages: int = _CHECKPOINT_PAGES,
    ) -> None:
        """Open or create the file and run the `migrations` that it has not seen.

        `migrations` are SQL scripts. The first creates a file of `FIRST_FORMAT`; released ones are never edited, only added to.
        `cache_kib` is the writer's page cache, each reader gets a quarter. Raises `Unsupported` if an older or newer Postroom
        wrote the file, `StorageFull`, `Corrupt` or `Unavailable` if it cannot be opened.
        """
        self.path = path
        self._pragmas = (
            f"PRAGMA synchronous={synchronous}",
            f"PRAGMA mmap_size={mmap_bytes}",
            f"PRAGMA wal_autocheckpoint={checkpoint_pages}",
            f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}",
            "PRAGMA foreign_keys=ON",
            "PRAGMA secure_delete=ON",  # an erased person's bytes are overwritten; Debian's SQLite does so by default
            "PRAGMA temp_store=MEMORY",
        )
        self._cache_kib = cache_kib
        self._writing = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        _make_file(path)
        self._lock = FileLock(path.with_name(path.name + "-lock"))
        try:
            self._writer = self._open_writer(migrations)
        except BaseException:
            self._lock.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, exclusive among all threads and processes: committed and durable when the block ends, rolled back when
        it raises. Must not be nested. Raises the errors of `__init__` for SQLite's errors in the block.
        """
        with self._writing:
            self._check_open()
            self._lock.acquire()
            try:
                with self._postroom_errors(), _transaction(self._writer, "BEGIN IMMEDIATE"):
                    yield self._writer
            finally:
                self._lock.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot: every statement of the block sees the same state, whatever other connections commit meanwhile."""
        with self._postroom_errors():
            connection = self._borrow()
            try:
                with _transaction(connection, "BEGIN"):
                    yield connection
            finally:
                self._give_back(connection)

    @property
    def version(self) -> int:
        """The file's format."""
        with self.read() as connection:
            return _version(connection)

    def close(self) -> None:
        """Close every connection that is not in use; those in use close when they are returned. May be called again."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            with self._postroom_errors():
                self._writer.close()
            self._lock.close()

    def _open_writer(self, migrations: Sequence[str]) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            with self._postroom_errors():
                connection = self._connect(self._cache_kib)
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                    _migrate(connection, migrations, self.path)
                except BaseException:
                    connection.close()
                    raise
                return connection
        finally:
            self._lock.release()

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
        )
        try:
            for pragma in (*self._pragmas, f"PRAGMA cache_size=-{cache_kib}"):
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"{self.path} is closed.")

    def _borrow(self) -> sqlite3.Connection:
        with suppress(IndexError):
            return self._readers.pop()
        self._check_open()
        connection = self._connect(self._cache_kib // 4)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed or len(self._readers) >= _IDLE_READERS:
            connection.close()
        else:
            self._readers.append(connection)

    @contextmanager
    def _postroom_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._closed:
                raise Unavailable(f"{self.path} is closed.") from error
            ours = database_error(error, self.path)
            if ours is None:
                raise
            raise ours from error


def remove_database(path: Path) -> None:
    """Delete a database and the files beside it. Does nothing if it is absent. It must not be open anywhere.

    The main file goes first: SQLite ignores and overwrites side files whose main file is gone.
    """
    with disk_errors(path):
        for name in (path.name, *(path.name + suffix for suffix in SIDE_FILES)):
            path.with_name(name).unlink(missing_ok=True)
        if path.parent.exists():
            sync_directory(path.parent)


def _make_file(path: Path) -> None:
    """Create it readable by its owner only (it holds addresses): SQLite gives the files beside it the same mode."""
    with disk_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_directory(path.parent)


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    try:
        connection.execute(begin)  # inside the try: a Ctrl-C may come right after it, and the connection is used again
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # false if it never began, or if SQLite has rolled it back
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], path: Path) -> None:
    """Run the scripts that the file has not seen, each in one transaction with its format. The caller holds the file lock."""
    newest = FIRST_FORMAT + len(migrations) - 1
    found = _version(connection)
    if 0 < found < FIRST_FORMAT:
        raise Unsupported(
            f"{path} was written by an older Postroom (format {found}, this one reads {FIRST_FORMAT} to {newest}): use the"
            " release that wrote it, or start with an empty data directory. Nothing was changed."
        )
    if found > newest:
        raise Unsupported(
            f"{path} was written by a newer Postroom (format {found}, this one reads {FIRST_FORMAT} to {newest}): upgrade."
        )
    unseen = migrations[found - FIRST_FORMAT + 1 :] if found else migrations
    for number, script in enumerate(unseen, newest - len(unseen) + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version={number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


# The control database: tables, queues, timers and workflows in one file, so that one transaction can span them. A timer that
# fires and the item it puts on a queue are one commit. Messages are elsewhere, in one ledger for each campaign.
CONTROL_FILE = "control.db"

_TABLES = """
-- Sort keys are UTF-8 as a blob: compared byte by byte, and a prefix is a range.
CREATE TABLE item (
    partition  TEXT    NOT NULL,
    sort       BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER,
    data       TEXT    NOT NULL,
    PRIMARY KEY (partition, sort)
) STRICT, WITHOUT ROWID;

CREATE INDEX item_by_expiry ON item (expires_at) WHERE expires_at IS NOT NULL;
"""

_QUEUES = """
-- `fence` counts leasings and is never set back; `visible_at` is the end of a delay or of a lease.
-- AUTOINCREMENT: an id is never used again, so an old receipt can never mean a new item.
CREATE TABLE queued (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    queue      TEXT    NOT NULL,
    dead       INTEGER NOT NULL DEFAULT 0,
    visible_at INTEGER NOT NULL,
    sent_at    INTEGER NOT NULL,
    receives   INTEGER NOT NULL DEFAULT 0,
    fence      INTEGER NOT NULL DEFAULT 0,
    body       TEXT    NOT NULL
) STRICT;

CREATE INDEX queued_by_time ON queued (queue, dead, visible_at);
CREATE INDEX queued_by_age ON queued (sent_at) WHERE dead = 0;
"""

_TIMERS = """
CREATE TABLE timer (
    name  TEXT    NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL,
    queue TEXT    NOT NULL,
    body  TEXT    NOT NULL
) STRICT;

CREATE INDEX timer_by_time ON timer (at);
"""

_WORKFLOWS = """
-- `due_at`: when the handler is to be called next. `run` counts starts, `fence` calls; neither is ever set back.
CREATE TABLE execution (
    workflow    TEXT    NOT NULL,
    execution   TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    run         INTEGER NOT NULL DEFAULT 1,
    input       TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    reason      TEXT,
    due_at      INTEGER NOT NULL,
    failures    INTEGER NOT NULL DEFAULT 0,
    owner       TEXT,
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workflow, execution)
) STRICT;

CREATE INDEX execution_running ON execution (workflow, due_at) WHERE status = 'running';
"""

CONTROL_MIGRATIONS = (_TABLES + _QUEUES + _TIMERS + _WORKFLOWS,)


def open_control(root: Path) -> Database:
    """The control database under `root`, created if absent. Raises as `Database`."""
    return Database(root / CONTROL_FILE, CONTROL_MIGRATIONS)
