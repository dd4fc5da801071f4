"""Journals on one machine: what a worker's page proves after its death. `kill -9` is real here."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from postroom.clock import Instant, SystemClock
from postroom.errors import StorageFull
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Settlement
from postroom.platform.embedded import journal as journal_module
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.ports.journal import Handed, Trace

A, B, C = (Key(letter * 12) for letter in (b"a", b"b", b"c"))
SENT = Settlement(B, MessageStatus.SENT, 1, Instant(5), None, 250, "2.0.0 Ok: queued as ü", "id-1")

WORKER = """
import os, signal, sys
from pathlib import Path
from postroom.clock import Instant, SystemClock
from postroom.model.message import MessageStatus, Settlement
from postroom.model.ids import Key
from postroom.platform.embedded.journal import FileJournals
journal = FileJournals(Path(sys.argv[1]), SystemClock()).begin("campaign")
page = journal.page(3, 7)
page.handing(Key(b"a" * 12))
page.handing(Key(b"b" * 12))
page.answered(Settlement(Key(b"b" * 12), MessageStatus.SENT, 1, Instant(5), None, 250, "2.0.0 Ok: queued as ü", "id-1"))
print(journal.owner, flush=True)
signal.pause()
"""


@pytest.fixture
def journals(tmp_path: Path) -> FileJournals:
    return FileJournals(tmp_path, SystemClock())


def _written(page: Path) -> bytes:
    """Without the room that is left."""
    return page.read_bytes().rstrip(b"\0")


def _worker(root: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_killed_worker_s_page_tells_handed_from_answered_from_untouched(journals: FileJournals, tmp_path: Path) -> None:
    process, owner = _worker(tmp_path)
    with process:
        assert journals.read("campaign", owner, 3, 7) is Trace.ALIVE
        assert journals.dead("campaign") == []
        process.kill()
    trace = journals.read("campaign", owner, 3, 7)
    assert trace == Handed(frozenset({A}), {B: SENT})
    assert journals.dead("campaign") == [owner]


def test_a_stopped_worker_is_alive(journals: FileJournals, tmp_path: Path) -> None:
    process, owner = _worker(tmp_path)
    with process:
        os.kill(process.pid, signal.SIGSTOP)
        assert journals.read("campaign", owner, 3, 7) is Trace.ALIVE
        process.kill()


def test_a_page_of_another_fence_or_batch_proves_nothing(journals: FileJournals, tmp_path: Path) -> None:
    process, owner = _worker(tmp_path)
    with process:
        process.kill()
    assert journals.read("campaign", owner, 3, 8) is Trace.LOST
    assert journals.read("campaign", owner, 4, 7) is Trace.LOST
    assert journals.read("campaign", "nobody", 3, 7) is Trace.LOST


def test_after_a_reboot_no_page_is_trusted(journals: FileJournals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, owner = _worker(tmp_path)
    with process:
        process.kill()
    monkeypatch.setattr(journal_module, "_boot_id", lambda: b"another boot")
    assert journals.read("campaign", owner, 3, 7) is Trace.LOST


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("/bin/sh", "-c", "echo this-boot"), Handed(frozenset({A}), {})),
        (("/bin/sh", "-c", "exit 1"), Trace.LOST),
        (("/bin/sh", "-c", "exec sleep 60"), Trace.LOST),
        (("/nonexistent/sysctl",), Trace.LOST),
    ],
)
def test_without_proc_the_system_is_asked_which_boot_it_is(
    journals: FileJournals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    expected: Handed | Trace,
) -> None:
    """As on macOS; where it does not tell, after a crash no page is trusted."""
    monkeypatch.setattr(journal_module, "_BOOT_ID", tmp_path / "absent")
    monkeypatch.setattr(journal_module, "_ASK_BOOT_ID", command)
    monkeypatch.setattr(journal_module, "_ASK_S", 0.5)
    monkeypatch.setattr(journal_module, "_boot_id", cache(journal_module._boot_id.__wrapped__))
    journal = journals.begin("campaign")
    page = journal.page(3, 7)
    page.handing(A)
    page.seal()
    assert journals.read("campaign", journal.owner, 3, 7) == expected
    journal.close()


def test_a_sealed_page_is_the_whole_truth_while_its_owner_lives_on(journals: FileJournals) -> None:
    journal = journals.begin("campaign")
    page = journal.page(3, 7)
    page.handing(A)
    page.handing(B)
    page.answered(SENT)
    assert journals.read("campaign", journal.owner, 3, 7) is Trace.ALIVE
    page.seal()
    assert journals.read("campaign", journal.owner, 3, 7) == Handed(frozenset({A}), {B: SENT})
    assert journals.dead("campaign") == []
    journal.close()


def test_of_a_message_that_was_handed_over_again_the_earlier_answer_proves_nothing(journals: FileJournals) -> None:
    """A page is open as long as somebody is on the way: long enough for a deferred message to come again."""
    later = SENT._replace(status=MessageStatus.DEFERRED, due=Instant(50), code=451)
    journal = journals.begin("campaign")
    page = journal.page(3, 7)
    page.handing(B)
    page.answered(later)
    page.handing(A)
    page.answered(later._replace(key=A))
    page.handing(B)
    page.handing(A)
    page.answered(SENT._replace(key=A, attempt=2))
    page.seal()
    assert journals.read("campaign", journal.owner, 3, 7) == Handed(frozenset({B}), {A: SENT._replace(key=A, attempt=2)})
    journal.close()


@pytest.mark.parametrize("cut", range(2, 40, 3))
def test_a_torn_line_is_not_taken_for_an_answer(journals: FileJournals, tmp_path: Path, cut: int) -> None:
    journal = journals.begin("campaign")
    page = journal.page(3, 7)
    page.handing(B)
    page.answered(SENT._replace(reply="refused by [192.0.2.1]"))
    path = tmp_path / "campaign" / journal.owner / "3-7"
    path.write_bytes(_written(path)[:-cut])
    journal.close()
    assert journals.read("campaign", journal.owner, 3, 7) == Handed(frozenset({B}), {})


def test_a_torn_last_line_is_not_taken_for_an_answer(journals: FileJournals, tmp_path: Path) -> None:
    process, owner = _worker(tmp_path)
    with process:
        process.kill()
    page = tmp_path / "campaign" / owner / "3-7"
    page.write_bytes(_written(page)[:-9])
    assert journals.read("campaign", owner, 3, 7) == Handed(frozenset({A, B}), {})


def test_a_clean_end_leaves_nothing(journals: FileJournals, tmp_path: Path) -> None:
    journal = journals.begin("campaign")
    page = journal.page(0, 1)
    page.handing(A)
    page.close()
    journal.close()
    assert list((tmp_path / "campaign").iterdir()) == []
    assert journals.dead("campaign") == []


def test_closing_with_a_page_left_keeps_what_the_page_says(journals: FileJournals) -> None:
    journal = journals.begin("campaign")
    journal.page(0, 1).handing(C)
    journal.close()
    assert journals.read("campaign", journal.owner, 0, 1) == Handed(frozenset({C}), {})


def test_the_dead_are_forgotten_and_the_living_are_not(journals: FileJournals, tmp_path: Path) -> None:
    living = journals.begin("campaign")
    process, owner = _worker(tmp_path)
    with process:
        process.kill()
    journals.forget("campaign", owner)
    journals.forget("campaign", living.owner)
    assert journals.dead("campaign") == []
    assert journals.read("campaign", living.owner, 0, 1) is Trace.ALIVE
    living.close()


def test_a_page_takes_more_lines_than_it_had_room_for(journals: FileJournals) -> None:
    journal = journals.begin("campaign")
    page = journal.page(0, 1)
    keys = [Key(n.to_bytes(12, "big")) for n in range(3_000)]
    for key in keys:
        page.handing(key)
    for key in keys[:-1]:
        page.answered(SENT._replace(key=key, reply="x" * 250))
    page.seal()
    trace = journals.read("campaign", journal.owner, 0, 1)
    assert isinstance(trace, Handed)
    assert trace.in_flight == {keys[-1]}
    assert trace.answered.keys() == set(keys[:-1])
    journal.close()


def test_a_full_disk_stops_the_hand_over_and_loses_no_answer(journals: FileJournals, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journals.begin("campaign")
    page = journal.page(0, 1)
    page.handing(A)
    page.handing(B)

    def full(_file: int, _content: bytes, _at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("postroom.platform.embedded.journal.os.pwrite", full)
    keys = [Key(n.to_bytes(12, "big")) for n in range(1_000)]
    handed = 0
    with suppress(StorageFull):
        for key in keys:
            page.handing(key)
            handed += 1
    assert 0 < handed < len(keys)
    for key in keys[:handed]:
        page.answered(SENT._replace(key=key, reply="é" * 250))
    page.answered(SENT._replace(reply="ü" * 250))
    page.seal()
    trace = journals.read("campaign", journal.owner, 0, 1)
    assert isinstance(trace, Handed)
    assert trace.in_flight == {A}
    assert trace.answered.keys() == {*keys[:handed], B}
    journal.close()
