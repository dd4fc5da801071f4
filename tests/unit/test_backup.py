"""Backup and restore: consistent while others write, verified before it counts, and nothing restored sends by itself."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from postroom.clock import Instant
from postroom.errors import Corrupt, Invalid, NotFound, PostroomError, StorageFull, Unsupported
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import Database, open_control
from postroom.platform.embedded.backup import MANIFEST, DirectoryArchive
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.journal import Trace
from postroom.services.backup import BackupService
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.clock import START, ManualClock

S = CampaignStatus
LEDGER = "ledgers/default/c1.db"
LARGE = b"large" * 50_000


def quiet(name: str) -> None:
    """Nobody watches."""


def nothing(data: Path, created_at: Instant) -> None:
    """Nothing to prepare."""


def no_streams(data: Path, reason: str) -> int:
    """No single messages either."""
    return 0


@contextmanager
def campaigns(data: Path) -> Iterator[Campaigns]:
    with closing(open_control(data)) as database:
        yield Campaigns(SqliteTables(database, ManualClock()), ManualClock())


def campaign(name: str, state: CampaignStatus, *, start: bool = False) -> Campaign:
    ref = CampaignRef("default", name)
    return campaign_record(ref, state, START, spec=campaign_spec(name, provider="inbox:"), start_when_ready=start)


def add_row(data: Path, text: str) -> None:
    with closing(Database(data / LEDGER, ("CREATE TABLE row (text TEXT)",))) as ledger, ledger.write() as db:
        db.execute("INSERT INTO row VALUES (?)", (text,))


def rows(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / LEDGER)) as db:
        return [text for (text,) in db.execute("SELECT text FROM row ORDER BY rowid")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a campaign, a ledger, a small and a large object, and what a live process leaves about."""
    data = tmp_path / "data"
    with campaigns(data) as records:
        records.create(campaign("c1", S.SENDING))
    add_row(data, "one")
    with closing(FileObjects(data / "objects", ManualClock())) as objects:
        objects.put("small", b"small")
        objects.put("large", LARGE)
    (data / "journals" / "c1").mkdir(parents=True)
    (data / "journals" / "c1" / "lock").write_text("alive")
    return data


@pytest.fixture
def archive(data: Path) -> DirectoryArchive:
    return DirectoryArchive(data, ManualClock())


def restored(source: Path, target: Path) -> Path:
    DirectoryArchive(target, ManualClock()).restore(source, nothing, quiet)
    return target


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_everything_that_lasts_comes_back(archive: DirectoryArchive, tmp_path: Path) -> None:
    copied = archive.write(tmp_path / "backup", quiet)
    target = restored(tmp_path / "backup", tmp_path / "new" / "data")
    assert copied.created_at == START
    assert copied.files == len(names(tmp_path / "backup")) - 1
    assert rows(target) == ["one"]
    with campaigns(target) as records:
        assert records.get(CampaignRef("default", "c1")).status is S.SENDING
    with closing(FileObjects(target / "objects", ManualClock())) as objects:
        assert (objects.get("small"), objects.get("large")) == (b"small", LARGE)


def test_what_is_encrypted_opens_after_a_restore_and_the_keys_are_copied_last_for_their_owner_alone(
    archive: DirectoryArchive, data: Path, tmp_path: Path
) -> None:
    """Last: what was sealed before its file was copied is never under a key that is not in the copy."""
    sealed = MasterSecrets(KeyFile(data / "master.key", ManualClock())).seal("purpose", b"secret")
    order: list[str] = []
    archive.write(tmp_path / "backup", order.append)
    assert order[-1] == "master.key"
    target = restored(tmp_path / "backup", tmp_path / "new" / "data")
    assert MasterSecrets(KeyFile(target / "master.key", ManualClock())).open("purpose", sealed) == b"secret"
    for copy in (tmp_path / "backup", target):
        assert (copy / "master.key").stat().st_mode & 0o777 == 0o600


def test_what_belongs_to_live_processes_is_left_out(archive: DirectoryArchive, tmp_path: Path) -> None:
    archive.write(tmp_path / "backup", quiet)
    kept = names(tmp_path / "backup")
    assert {"control.db", LEDGER, "objects/objects.db", MANIFEST} <= kept
    assert not any("journals" in name or "staging" in name or name.endswith(("-wal", "-shm", "-lock")) for name in kept)


def test_the_copy_shares_nothing_with_the_data(archive: DirectoryArchive, data: Path, tmp_path: Path) -> None:
    archive.write(tmp_path / "backup", quiet)
    shutil.rmtree(data)
    assert rows(restored(tmp_path / "backup", data)) == ["one"]


def test_what_refers_is_copied_before_what_it_refers_to(archive: DirectoryArchive, tmp_path: Path) -> None:
    """So what is stored and then named while the copy runs is never named there without being there."""
    order: list[str] = []
    archive.write(tmp_path / "backup", order.append)
    ranks = [0 if n == "control.db" else 1 if n == LEDGER else 2 if n == "objects/objects.db" else 3 for n in order]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}


def test_what_is_stored_and_named_while_the_copy_runs_never_dangles(data: Path, tmp_path: Path) -> None:
    """At each file of the copy a writer stores an object and then a record that names it: whatever record the copy has, it has
    the object too."""
    writing = FileObjects(data / "objects", ManualClock(seed=1))
    number = iter(range(100))

    def write_on(name: str) -> None:
        key = f"k{next(number)}"
        writing.put(key, LARGE)
        add_row(data, key)
        with campaigns(data) as records:
            records.create(campaign(key, S.DRAFT))

    with closing(writing):
        DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", write_on)
    target = restored(tmp_path / "backup", tmp_path / "new")
    with campaigns(target) as records, closing(FileObjects(target / "objects", ManualClock())) as objects:
        named = {record.spec.name for record in records.list("default").items} - {"c1"}
        assert named
        assert all(objects.get(key) == LARGE for key in (named | set(rows(target))) - {"one"})
    assert named <= set(rows(target))


def test_a_writer_in_the_middle_of_everything_is_copied_at_a_commit(data: Path, tmp_path: Path) -> None:
    """Each transaction writes two rows: a snapshot never holds an odd number."""
    stop = threading.Event()

    def write() -> None:
        with closing(Database(data / LEDGER, ("CREATE TABLE row (text TEXT)",), synchronous="NORMAL")) as ledger:
            while not stop.is_set():
                with ledger.write() as db:
                    db.execute("INSERT INTO row VALUES ('a')")
                    db.execute("INSERT INTO row VALUES ('b')")

    add_row(data, "two")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            DirectoryArchive(data, ManualClock()).write(tmp_path / f"b{number}", quiet)
            assert len(rows(tmp_path / f"b{number}")) % 2 == 0
    finally:
        stop.set()
        writer.join()


def test_a_file_deleted_while_the_copy_runs_is_left_out(data: Path, tmp_path: Path) -> None:
    def delete(name: str) -> None:
        if name == LEDGER:
            (data / LEDGER).unlink()

    DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", delete)
    assert LEDGER not in names(restored(tmp_path / "backup", tmp_path / "new"))


def test_a_killed_backup_is_no_backup(archive: DirectoryArchive, tmp_path: Path) -> None:
    def killed(name: str) -> None:
        if name == "objects/objects.db":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write(tmp_path / "backup", killed)
    with pytest.raises(NotFound, match="no finished backup"):
        restored(tmp_path / "backup", tmp_path / "new")
    with pytest.raises(Invalid, match="unfinished"):
        archive.write(tmp_path / "backup", quiet)


def test_damaged_data_makes_no_backup(archive: DirectoryArchive, data: Path, tmp_path: Path) -> None:
    (data / LEDGER).write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(Corrupt, match=r"c1\.db"):
        archive.write(tmp_path / "backup", quiet)
    assert not (tmp_path / "backup" / MANIFEST).exists()


@pytest.mark.parametrize("where", ["data/backup", "data", "data/new/deep"])
def test_a_backup_inside_its_data_is_refused(archive: DirectoryArchive, tmp_path: Path, where: str) -> None:
    with pytest.raises(Invalid):
        archive.write(tmp_path / where, quiet)


def test_without_data_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing to back up"):
        DirectoryArchive(tmp_path / "absent", ManualClock()).write(tmp_path / "backup", quiet)


def test_without_room_nothing_is_copied(archive: DirectoryArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StorageFull, match="free"):
        archive.write(tmp_path / "backup", quiet)
    assert names(tmp_path / "backup") == set()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = orjson.loads(path.read_bytes())
    change(document)
    path.write_bytes(orjson.dumps(document))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda backup: flip(backup / "control.db"), Corrupt),
        (lambda backup: flip(backup / LEDGER), Corrupt),
        (lambda backup: (backup / LEDGER).unlink(), Corrupt),
        (lambda backup: (backup / LEDGER).write_bytes(b""), Corrupt),
        (lambda backup: (backup / MANIFEST).write_bytes(b"{"), Corrupt),
        (lambda backup: (backup / MANIFEST).write_bytes(b"[]"), Corrupt),
        (lambda backup: edit(backup / MANIFEST, lambda d: d["files"].pop()), Corrupt),
        (lambda backup: edit(backup / MANIFEST, lambda d: d.update(created_at=1)), Corrupt),
        (lambda backup: edit(backup / MANIFEST, lambda d: d.update(format=99)), Unsupported),
        (lambda backup: (backup / MANIFEST).unlink(), NotFound),
        (lambda backup: shutil.rmtree(backup), NotFound),
    ],
)
def test_a_backup_that_is_not_what_was_written_restores_nothing(
    archive: DirectoryArchive, tmp_path: Path, damage: Callable[[Path], None], kind: type[PostroomError]
) -> None:
    archive.write(tmp_path / "backup", quiet)
    damage(tmp_path / "backup")
    with pytest.raises(kind):
        restored(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new.restoring").exists()


def test_a_manifest_cannot_name_files_outside(archive: DirectoryArchive, tmp_path: Path) -> None:
    from postroom.platform.embedded import backup as module

    archive.write(tmp_path / "backup", quiet)
    (tmp_path / "outside").write_bytes(b"x")
    entry = module._Entry("../outside", 1, module._hash(tmp_path / "outside"))
    module._write_manifest(tmp_path / "backup", START, [entry])
    with pytest.raises(Corrupt, match="outside"):
        restored(tmp_path / "backup", tmp_path / "new")


def test_restore_refuses_a_directory_with_anything_in_it(archive: DirectoryArchive, data: Path, tmp_path: Path) -> None:
    archive.write(tmp_path / "backup", quiet)
    before = names(data)
    with pytest.raises(Invalid, match="not empty"):
        restored(tmp_path / "backup", data)
    assert names(data) == before


def test_a_killed_restore_leaves_no_data_and_can_be_repeated(archive: DirectoryArchive, tmp_path: Path) -> None:
    archive.write(tmp_path / "backup", quiet)
    leftover = tmp_path / ".new.restoring"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"x")
    assert names(restored(tmp_path / "backup", tmp_path / "new")).isdisjoint({"half"})
    assert not leftover.exists()


def test_a_group_open_in_the_backup_is_in_doubt_as_a_whole(data: Path, tmp_path: Path) -> None:
    """Journals are not part of a backup, so of the group that was with the provider nothing is known."""
    ref = CampaignRef("default", "c2")
    keys = [Key(bytes([number]) * 12) for number in range(3)]
    journals = FileJournals(data / "journals", ManualClock())
    journal = journals.begin(ref.campaign)
    with closing(LedgerFiles(data / "ledgers")) as ledgers:
        messages = SqliteMessages(ledgers)
        messages.create(ref, 1)
        messages.store(
            ref, [MessageRow(0, key, line, f"p{line}@a.example", None, "[]") for line, key in enumerate(keys, 1)], START
        )
        opened = messages.open(ref, 0, journal.owner, START, lease_ms=1_000)
        assert opened is not None
        journal.page(0, opened.fence).handing(keys[0])
        messages.record(ref, 0, opened.fence, [], keys[:2], START, lease_ms=1_000)
        DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", quiet)
    target = restored(tmp_path / "backup", tmp_path / "new")
    with closing(LedgerFiles(target / "ledgers")) as ledgers:
        found = SqliteMessages(ledgers).open(ref, 0, "another", Instant(START + 1_000), lease_ms=1_000)
    assert found is not None
    assert found.left_open is not None
    assert found.left_open.keys == tuple(keys[:2])
    known = FileJournals(target / "journals", ManualClock()).read(ref.campaign, journal.owner, 0, opened.fence)
    assert known is Trace.LOST
    journal.close()


def test_restored_campaigns_wait_for_a_person(data: Path, tmp_path: Path) -> None:
    with campaigns(data) as records:
        records.create(replace(campaign("theirs", S.SENDING), ref=CampaignRef("other", "theirs")))
        for state in S:
            records.create(campaign(f"x-{state}", state))
        records.create(campaign("eager", S.IMPORTING, start=True))
        records.create(campaign("ended", S.COMPLETED, start=True))
    BackupService(DirectoryArchive(data, ManualClock()), campaigns, no_streams).backup(tmp_path / "backup", quiet)
    target = tmp_path / "new"
    done = BackupService(DirectoryArchive(target, ManualClock()), campaigns, no_streams).restore(tmp_path / "backup", quiet)
    assert sorted(ref.campaign for ref in done.held) == ["c1", "eager", "theirs", "x-scheduled", "x-sending"]
    assert CampaignRef("other", "theirs") in done.held
    with campaigns(target) as records:
        assert records.get(CampaignRef("other", "theirs")).status is S.PAUSED
        found = {record.spec.name: record for record in records.list("default").items}
    assert all(found[name].status is S.PAUSED for name in ("c1", "x-scheduled", "x-sending"))
    assert not found["eager"].start_when_ready
    assert found["ended"].reason is None
    held = [found[ref.campaign] for ref in done.held if ref.tenant == "default"]
    assert all("restored from a backup of 2026-09-21T14:13:20Z" in (record.reason or "") for record in held)
    assert all(found[f"x-{state}"].status is state for state in S if state not in {S.SENDING, S.SCHEDULED})


@pytest.mark.parametrize("part", ["ledgers", "objects", "objects/files"])
def test_a_part_that_was_moved_to_another_disk_and_linked_is_copied(data: Path, tmp_path: Path, part: str) -> None:
    (data / part).rename(tmp_path / "other-disk")
    (data / part).symlink_to(tmp_path / "other-disk")
    with pytest.raises(Invalid, match="inside the data directory"):
        DirectoryArchive(data, ManualClock()).write(tmp_path / "other-disk" / "backup", quiet)
    DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", quiet)
    target = restored(tmp_path / "backup", tmp_path / "new")
    assert rows(target) == ["one"]
    with closing(FileObjects(target / "objects", ManualClock())) as objects:
        assert objects.get("large") == LARGE


def test_a_link_that_leads_nowhere_or_in_a_circle_is_refused(data: Path, tmp_path: Path) -> None:
    link = data / "ledgers" / "lost"
    link.symlink_to(tmp_path / "unplugged")
    with pytest.raises(NotFound, match="lost is a broken link"):
        DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", quiet)
    link.unlink()
    link.symlink_to(data)
    with pytest.raises(Invalid, match="leads back"):
        DirectoryArchive(data, ManualClock()).write(tmp_path / "backup", quiet)
    assert not (tmp_path / "backup" / MANIFEST).exists()
