"""A full disk and a read-only disk: one line that says what to do, exit code 1, nothing lost; with room again, exact."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, assert_adds_up, assert_exact, parse, until, write_csv

PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(12_000)]
CONNECTIONS = 4
WORKERS_THAT_TRY = 2 + 4
"""Two, and as many again as may fail in a row: each may find a little room, and lose the answers in flight when it ends."""
QUIET = Options(keep_content=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def office(disk: Path, make_office: MakeOffice, sink: SmtpSink) -> Office:
    """With its data on the small disk."""
    office = make_office(sink.port, connections=CONNECTIONS, data=str(disk / "data"))
    write_csv(office.recipients, PEOPLE)
    return office


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink([], QUIET) as running:
        yield running


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1_048_576, 4_096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def remount(disk: Path, how: str) -> bool:
    """Whether the disk is `ro` or `rw` now: it cannot become read-only while a file is open for writing."""
    return subprocess.run(["mount", "-o", f"remount,{how}", disk], capture_output=True).returncode == 0


def assert_one_sentence(stderr: str, *words: str) -> None:
    """The last line is the error, and no Python shows."""
    assert "Traceback" not in stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("postroom: ")
    assert all(word in last for word in words), last


def test_a_disk_that_fills_up_in_the_middle(office: Office, disk: Path, sink: SmtpSink) -> None:
    run = office.send()
    run.until(lambda: len(sink.accepted) > 1_500, "mail")
    filler = fill(disk)
    assert run.wait() == 1
    assert_one_sentence(run.stderr, "full", "room")
    until(lambda: not office.processes(), "all to end")
    sent = len(sink.accepted)
    assert sent < len(PEOPLE)
    again = office.resume()
    assert again.wait() == 1, "still no room"
    assert_one_sentence(again.stderr, "full", "room")
    assert len(sink.accepted) == sent, "without a durable intent nothing is sent"
    filler.unlink()
    done = office.resume("--json")
    assert done.wait() in (0, 3), done.stderr
    shown = parse(done.stdout)
    assert_exact(office.messages(), sink.recipients())
    assert_adds_up(shown)
    assert shown["counts"]["sent"] + shown["counts"]["unknown"] == len(PEOPLE)
    assert shown["counts"]["unknown"] <= CONNECTIONS * WORKERS_THAT_TRY, "answers that found no room"


def test_a_full_disk_at_the_start_makes_nothing(office: Office, disk: Path, sink: SmtpSink) -> None:
    filler = fill(disk)
    run = office.send()
    assert run.wait() == 1
    assert_one_sentence(run.stderr, "full", "room")
    filler.unlink()
    done = office.send("--json")
    assert done.wait() == 0, done.stderr
    assert sorted(sink.recipients()) == sorted(PEOPLE)


def test_a_read_only_disk(office: Office, disk: Path, sink: SmtpSink) -> None:
    run = office.send()
    run.until(lambda: len(sink.accepted) > 1_500, "mail")
    for pid in office.processes():
        os.kill(pid, signal.SIGKILL)
    run.process.wait()
    until(lambda: not office.processes(), "all to end")
    until(lambda: remount(disk, "ro"), "the last file to be closed")
    for words in (
        ["send", "--resume", office.campaign],
        ["campaign", "pause", office.campaign],
        ["suppress", "add", "a@b.example"],
    ):
        code, _, said = office.command(*words)
        assert code == 1
        assert_one_sentence(said, "read-only")
    assert remount(disk, "rw")
    done = office.resume("--json")
    assert done.wait() in (0, 3), done.stderr
    counts = parse(done.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= 2 * CONNECTIONS


def test_workers_that_may_write_no_more_are_replaced(make_office: MakeOffice, sink: SmtpSink) -> None:
    """A limit on file sizes, which needs no root; only the workers that run now are under it."""
    office = make_office(sink.port, connections=CONNECTIONS)
    write_csv(office.recipients, PEOPLE)
    run = office.send("--json")
    run.until(lambda: len(sink.accepted) > 1_500, "mail")
    limited = office.workers()
    for pid in limited:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, 1))
    assert run.wait() in (0, 3), run.stderr
    assert not set(limited) & set(office.processes())
    shown = parse(run.stdout)
    assert_exact(office.messages(), sink.recipients())
    assert_adds_up(shown)
    assert shown["counts"]["sent"] + shown["counts"]["unknown"] == len(PEOPLE)
    assert shown["counts"]["unknown"] <= len(limited) * CONNECTIONS
