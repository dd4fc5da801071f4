"""How a SQLite file is opened, shared, migrated and lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from postroom.errors import Conflict, Corrupt, StorageFull, Unavailable, Unsupported
from postroom.platform.embedded._files import FileLock
from postroom.platform.embedded._sqlite import FIRST_FORMAT, SIDE_FILES, Database, Synchronous, _transaction, remove_database

ROOT = Path(__file__).resolve().parents[2]
FIRST = "CREATE TABLE tally (n INTEGER NOT NULL) STRICT; INSERT INTO tally VALUES (0)"
SECOND = "ALTER TABLE tally ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"

PRELUDE = f"""
import os, signal, sys
from pathlib import Path
from postroom.platform.embedded._sqlite import Database
database = Database(Path(sys.argv[1]), [{FIRST!r}, {SECOND!r}])
"""


def start(path: Path, script: str) -> subprocess.Popen[str]:
    """A process of its own on the same file."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tally(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute("SELECT n FROM tally").fetchone()[0])


def add(database: Database, n: int = 1) -> None:
    with database.write() as connection:
        connection.execute("UPDATE tally SET n = n + ?", (n,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(path, [FIRST, SECOND])
    yield opened
    opened.close()


def test_a_block_that_raises_changes_nothing_and_the_next_one_works(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute("UPDATE tally SET n = 99")
            raise Conflict("no")

    with pytest.raises(Conflict):
        fail()
    add(database)
    assert tally(database) == 1


def test_an_interrupt_right_after_a_transaction_began_leaves_none_open() -> None:
    """A Ctrl-C comes between any two lines, and the connection is used again by whoever says goodbye."""
    connection = sqlite3.connect(":memory:", isolation_level=None)

    class Interrupted:
        in_transaction = property(lambda _: connection.in_transaction)

        def execute(self, statement: str) -> None:
            connection.execute(statement)
            if statement == "BEGIN":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), _transaction(cast("sqlite3.Connection", Interrupted()), "BEGIN"):
        pytest.fail("it was interrupted before")
    assert not connection.in_transaction
    connection.close()


def test_a_reader_sees_one_snapshot_and_never_waits_for_a_writer(database: Database) -> None:
    with database.read() as connection:
        before = connection.execute("SELECT n FROM tally").fetchone()
        with database.write() as writer:
            writer.execute("UPDATE tally SET n = 5")
            assert tally(database) == 0
        assert connection.execute("SELECT n FROM tally").fetchone() == before
    assert tally(database) == 5


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StorageFull), database.read() as connection:
        connection.execute("UPDATE tally SET n = 5")


def test_a_mistake_in_our_own_sql_is_not_dressed_up(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax"), database.write() as connection:
        connection.execute("UPDAT tally")


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_every_connection_is_as_durable_as_asked(path: Path, synchronous: Synchronous, level: int) -> None:
    database = Database(path, [FIRST], synchronous=synchronous)
    with database.write() as writer, database.read() as reader:
        for connection in (writer, reader):
            assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    database.close()


def test_a_file_is_nobody_elses_to_read(database: Database, path: Path) -> None:
    add(database)
    for name in (path.name, *(path.name + suffix for suffix in SIDE_FILES)):
        assert path.with_name(name).stat().st_mode & 0o077 == 0


def test_a_migration_runs_once_and_keeps_the_data(path: Path) -> None:
    first = Database(path, [FIRST])
    add(first, 7)
    assert first.version == FIRST_FORMAT
    first.close()
    for _ in range(2):
        second = Database(path, [FIRST, SECOND])
        assert second.version == FIRST_FORMAT + 1
        with second.read() as connection:
            assert connection.execute("SELECT n, note FROM tally").fetchall() == [(7, "none")]
        second.close()


def test_a_migration_that_breaks_leaves_the_file_as_it_was(path: Path) -> None:
    Database(path, [FIRST]).close()
    with pytest.raises(sqlite3.OperationalError):
        Database(path, [FIRST, "UPDATE tally SET n = 9; UPDATE nowhere SET n = 1"])
    again = Database(path, [FIRST])
    assert (again.version, tally(again)) == (FIRST_FORMAT, 0)
    again.close()


def test_a_file_of_a_newer_postroom_is_refused_untouched(path: Path) -> None:
    Database(path, [FIRST, SECOND]).close()
    with pytest.raises(Unsupported, match="newer"):
        Database(path, [FIRST])
    again = Database(path, [FIRST, SECOND])
    assert again.version == FIRST_FORMAT + 1
    again.close()


@pytest.mark.parametrize("older", range(1, FIRST_FORMAT))
def test_a_file_of_an_older_postroom_is_refused_untouched_and_the_error_names_both_formats(path: Path, older: int) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE tally (n INTEGER NOT NULL)")
        connection.execute(f"PRAGMA user_version={older}")
    with pytest.raises(Unsupported, match=rf"older Postroom \(format {older}, this one reads {FIRST_FORMAT} to {FIRST_FORMAT}\)"):
        Database(path, [FIRST])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (older,)


def test_many_processes_may_open_and_migrate_at_once_and_lose_no_write(path: Path) -> None:
    script = """
for _ in range(40):
    with database.write() as connection:
        n = connection.execute("SELECT n FROM tally").fetchone()[0]
        connection.execute("UPDATE tally SET n = ?", (n + 1,))
"""
    processes = [start(path, script) for _ in range(4)]
    ends = [process.communicate(timeout=60) for process in processes]
    assert ends == [("", "")] * 4
    database = Database(path, [FIRST, SECOND])
    assert (database.version, tally(database)) == (FIRST_FORMAT + 1, 160)
    database.close()


def test_a_writer_killed_in_its_transaction_changes_nothing_and_frees_the_lock_at_once(path: Path, database: Database) -> None:
    process = start(
        path,
        """
with database.write() as connection:
    connection.execute("UPDATE tally SET n = 99")
    print("holding", flush=True)
    sys.stdin.read()
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    added = threading.Event()

    def add_and_tell() -> None:
        add(database)
        added.set()

    waiting = threading.Thread(target=add_and_tell)
    waiting.start()
    assert not added.wait(0.2), "the lock is held"
    assert tally(database) == 0
    process.kill()
    assert added.wait(10)
    waiting.join()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
    assert tally(database) == 1


def test_whoever_waits_too_long_says_for_whom(path: Path, database: Database) -> None:
    lock = FileLock(path.with_name(path.name + "-lock"))
    with database.write(), pytest.raises(Unavailable, match=f"process {os.getpid()}: end that process or let it continue"):
        lock.acquire(patience_s=0.1)
    lock.acquire(patience_s=0.1)
    lock.close()


def test_threads_of_one_process_take_turns(database: Database) -> None:
    def work() -> None:
        for _ in range(50):
            with database.write() as connection:
                (n,) = connection.execute("SELECT n FROM tally").fetchone()
                connection.execute("UPDATE tally SET n = ?", (n + 1,))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally(database) == 200


def test_a_full_disk_is_said_so_and_undoes_the_transaction(database: Database) -> None:
    def overfill() -> None:
        with database.write() as connection:
            connection.execute("UPDATE tally SET n = 1")
            connection.execute("CREATE TABLE filler (b BLOB)")
            connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 1}")
            connection.execute("INSERT INTO filler VALUES (zeroblob(1000000))")

    with pytest.raises(StorageFull, match=r"file\.db"):
        overfill()
    assert tally(database) == 0
    with database.write() as connection:
        connection.execute("PRAGMA max_page_count=1000000")
    add(database)
    assert tally(database) == 1


def test_a_program_that_holds_sqlites_own_lock_makes_us_unavailable_not_wrong(database: Database, path: Path) -> None:
    with database.write() as connection:
        pass
    connection.execute("PRAGMA busy_timeout=50")
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="in use"):
        add(database)
    stranger.execute("COMMIT")
    stranger.close()
    add(database)
    assert tally(database) == 1


@pytest.mark.parametrize("content", [b"this is a letter, not a database" * 200, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_corrupt_and_untouched(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"file\.db"):
        Database(path, [FIRST])
    assert path.read_bytes() == content


def test_a_place_that_cannot_hold_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "directory.db").mkdir()
    with pytest.raises((StorageFull, Unavailable), match=r"directory\.db"):
        Database(tmp_path / "directory.db", [FIRST])
    with pytest.raises((StorageFull, Unavailable)):
        Database(Path("/proc/nowhere/file.db"), [FIRST])


def test_after_close_everything_is_unavailable_and_closing_again_is_harmless(database: Database) -> None:
    add(database)
    database.close()
    database.close()
    with pytest.raises(Unavailable, match="closed"):
        add(database)
    with pytest.raises(Unavailable, match="closed"):
        tally(database)


def test_a_removed_database_leaves_nothing_and_its_name_is_free_again(path: Path) -> None:
    database = Database(path, [FIRST])
    add(database, 5)
    database.close()
    remove_database(path)
    remove_database(path)
    assert list(path.parent.iterdir()) == []
    again = Database(path, [FIRST])
    assert tally(again) == 0
    again.close()
