"""One SQLite database file, opened right: durable, shared by threads and processes, migrated, its errors in our words.

- **Durable**: WAL; with `synchronous=FULL` a committed transaction survives a power cut, with `NORMAL` a killed
  process but the last moments may be lost with the power.
- **Writers** take a file lock (gone with a killed process, and it names its holder) before SQLite's own.
- **Connections**: one writes, guarded by a lock; those that read are borrowed from a pool and see one snapshot each,
  so a long export never holds up a commit, and threads that come and go leak nothing.
- **A crash** at any line leaves the last committed state; SQLite recovers it when the file is next opened.

Not usable across a fork: open it in the child.

The control database: tables, queues, timers and workflows in one file, so that one transaction can span them.

A timer that fires and the item it puts on a queue are one commit. Messages live elsewhere (a ledger a campaign).
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


"""What stands beside a database, after its name."""


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
    """What SQLite's error means for `path`; None: a mistake in our own SQL, to be raised as it is."""
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
    """See the module's text."""

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
        """Open or make the file and bring it to the newest of `migrations`: SQL scripts, the first is number 1, never edited
        once released, only added to.

        `cache_kib` is the writer's page cache, readers get a quarter. `Unsupported`: written by a newer Postroom.
        `StorageFull`, `Corrupt`, `Unavailable`: it cannot be opened.
        """
        self.path = path
        self._pragmas = (
            f"PRAGMA synchronous={synchronous}",
            f"PRAGMA mmap_size={mmap_bytes}",
            f"PRAGMA wal_autocheckpoint={checkpoint_pages}",
            f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}",
            "PRAGMA foreign_keys=ON",
            "PRAGMA secure_delete=ON",  # who is erased is overwritten; as Debian's SQLite does anyway
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
        """One transaction, alone among all threads and processes: committed and durable when the block ends, undone when it
        raises. Not to be nested. SQLite's errors within are raised as ours; the kinds are those of `__init__`.
        """
        with self._writing:
            self._check_open()
            self._lock.acquire()
            try:
                with self._our_errors(), _transaction(self._writer, "BEGIN IMMEDIATE"):
                    yield self._writer
            finally:
                self._lock.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot: every statement of the block sees the same state, whatever is committed meanwhile."""
        with self._our_errors():
            connection = self._borrow()
            try:
                with _transaction(connection, "BEGIN"):
                    yield connection
            finally:
                self._give_back(connection)

    @property
    def version(self) -> int:
        """The number of the newest migration in the file."""
        with self.read() as connection:
            return _version(connection)

    def close(self) -> None:
        """Close every connection that is not in use; those in use close when they are given back. Again: harmless."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            with self._our_errors():
                self._writer.close()
            self._lock.close()

    def _open_writer(self, migrations: Sequence[str]) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            with self._our_errors():
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
    def _our_errors(self) -> Iterator[None]:
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
    """Delete a database and what stands beside it, for good; absent: harmless. Nobody may have it open.

    The main file goes first: a leftover beside a file that is gone is ignored and overwritten by SQLite.
    """
    with disk_errors(path):
        for name in (path.name, *(path.name + suffix for suffix in SIDE_FILES)):
            path.with_name(name).unlink(missing_ok=True)
        if path.parent.exists():
            sync_directory(path.parent)


def _make_file(path: Path) -> None:
    """Make it private (it holds people's addresses), for SQLite gives the files beside it the same mode, and its name last."""
    with disk_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_directory(path.parent)


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    try:
        connection.execute(begin)  # within: a Ctrl-C may come right after it, and the connection is used again
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # not where it never began, nor where SQLite has undone it already
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], path: Path) -> None:
    """Run the scripts that the file has not seen, each in one transaction with its number. The caller holds the file lock."""
    version = _version(connection)
    if version > len(migrations):
        raise Unsupported(
            f"{path} was written by a newer Postroom (version {version}, this one knows {len(migrations)}): upgrade."
        )
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version={number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


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
    state       TEXT    NOT NULL,
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

CREATE INDEX execution_running ON execution (workflow, due_at) WHERE state = 'running';
"""


CONTROL_MIGRATIONS = (_TABLES + _QUEUES + _TIMERS + _WORKFLOWS,)


def open_control(root: Path) -> Database:
    """The control database under `root`, made if it is not there. Errors as `Database`."""
    return Database(root / CONTROL_FILE, CONTROL_MIGRATIONS)
