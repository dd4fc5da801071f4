"""SIGSTOP: a worker that stands still past its lease, or whose command is gone, writes to nobody and writes nothing down any more."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from postroom.model.batch import GROUP_SIZE
from postroom.pipeline.sender.run import CONCURRENT_BATCHES
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, assert_adds_up, assert_exact, parse, until, write_csv

PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(8_000)]
CONNECTIONS = 4
QUIET = Options(keep_content=False)


def stop_without_locks(office: Office, pid: int) -> None:
    """SIGSTOP at a moment when it does not hold the ledger's file lock, for which all others would wait."""
    path = office.data / "ledgers" / "default" / f"{office.campaign}.db-lock"
    for _ in range(200):
        os.kill(pid, signal.SIGSTOP)
        with path.open("rb") as lock:
            try:
                until(lambda: _free(lock.fileno()), "the lock", seconds=0.3)
            except AssertionError:
                os.kill(pid, signal.SIGCONT)
            else:
                return
    raise AssertionError("it holds the lock all the time")


def stop(pids: list[int]) -> None:
    """SIGSTOP, wherever they are, locks or not; returns once they stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it to stop")  # noqa: B023


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def test_the_others_carry_on_and_what_the_stopped_one_learnt_counts_when_it_wakes(make_office: MakeOffice) -> None:
    """Its lease is lost: it hands over nothing more of what it held, and says what it did before."""
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, lease="4s")  # so it may be silent for 8 s before it is killed
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json")
        run.until(lambda: len(sink.accepted) > 500, "mail")
        sleeper = office.workers()[0]
        before = len(sink.accepted)
        stop_without_locks(office, sleeper)
        wake_at = time.monotonic() + 5.0
        run.until(lambda: time.monotonic() > wake_at, "the lease to be over")
        assert len(sink.accepted) > before + 1_000, "the other went on"
        assert run.running, "the open groups of the sleeper are waited for"
        os.kill(sleeper, signal.SIGCONT)
        code = run.wait()
        until(lambda: not office.processes(), "all to end")
    shown = parse(run.stdout)
    assert_exact(office.messages(), sink.recipients())
    assert_adds_up(shown)
    assert shown["counts"]["sent"] + shown["counts"]["unknown"] == len(PEOPLE)
    assert shown["counts"]["unknown"] <= CONNECTIONS
    assert code == (3 if shown["counts"]["unknown"] else 0)


def test_a_worker_that_never_wakes_is_killed_and_replaced(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, lease="2s")  # so it may be silent for 5 s
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json")
        run.until(lambda: len(sink.accepted) > 500, "mail")
        stopped = office.workers()
        stop(stopped)
        run.wait()
        assert not set(stopped) & set(office.processes())
    counts = parse(run.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= 2 * CONNECTIONS, (
        "dead for certain: only what was in flight, a message for each of its connections"
    )


def test_a_stopped_worker_whose_command_is_killed_dies_with_it(make_office: MakeOffice) -> None:
    """Whatever lock it holds: nobody would be left to continue or to kill it, and all who come after would wait for it."""
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send()
        run.until(lambda: len(sink.accepted) > 500, "mail")
        stopped = office.workers()
        stop(stopped)
        run.kill()
        until(lambda: not office.processes(), "the orphans to be gone", seconds=10)
        done = office.resume("--json")
        done.wait()
    counts = parse(done.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= 2 * CONNECTIONS


def test_an_orphan_that_is_stopped_past_its_lease_does_no_harm_when_it_wakes(make_office: MakeOffice) -> None:
    """Nobody is left to kill it: those who come after wait for a while, then take its whole groups for doubtful."""
    with SmtpSink([Rule("dot", "stall", to="mute*")], QUIET) as sink:
        office = make_office(sink.port, lease="2s", drain="4s", workers="1")
        write_csv(office.recipients, ["mute@x.example", *PEOPLE[:2_000]])
        run = office.send()
        run.until(lambda: "mute@x.example" in sink.dots and len(sink.accepted) > 300, "mail")
        (orphan,) = office.workers()
        run.kill()
        stop_without_locks(office, orphan)  # in the 4 s that it waits for the answer that never comes
        done = office.resume("--json")
        assert done.wait() == 3
        assert office.processes() == [orphan]
        accepted, changes = sink.recipients(), office.changes()
        os.kill(orphan, signal.SIGCONT)
        until(lambda: not office.processes(), "the orphan to end")
        assert office.changes() == changes
    counts = parse(done.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    late = set(sink.recipients()) - set(accepted)  # handed over before it was stopped, still on their way out of it
    assert len(late) <= CONNECTIONS
    assert counts["sent"] + counts["unknown"] == 2_001
    assert counts["unknown"] <= CONCURRENT_BATCHES * GROUP_SIZE
