"""SIGSTOP: a worker that stands still past its lease, or whose command is gone, writes to nobody and writes nothing down any more."""

from __future__ import annotations

import fcntl
import os
import signal

from postroom.model.batch import GROUP_SIZE
from postroom.pipeline.sender.campaign import CONCURRENT_BATCHES
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, assert_adds_up, assert_exact, parse, until, write_csv

PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(8_000)]
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


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def test_the_others_carry_on_and_the_stopped_one_has_lost_its_say(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, lease="2s")
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json")
        until(lambda: len(sink.accepted) > 500, "mail")
        stopped = office.workers()[0]
        stop_without_locks(office, stopped)
        until(lambda: office.status()["status"] == "completed", "the others to finish")  # within the 15 s until it is killed
        accepted, changes = sink.recipients(), office.changes()
        os.kill(stopped, signal.SIGCONT)
        code = run.wait()
        until(lambda: not office.processes(), "all to end")
        assert sink.recipients() == accepted
        assert office.changes() == changes
    counts = parse(run.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert_adds_up(parse(run.stdout))
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= CONCURRENT_BATCHES * GROUP_SIZE, "while it may still be alive, its whole groups are in doubt"
    assert code == (3 if counts["unknown"] else 0)


def test_a_worker_that_never_wakes_is_killed_and_replaced(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, lease="2s", drain="0s")  # so it may be silent for 5 s
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json")
        until(lambda: len(sink.accepted) > 500, "mail")
        stopped = office.workers()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)  # wherever they are, locks or not
        run.wait()
        assert not set(stopped) & set(office.processes())
    counts = parse(run.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= 2 * 4, "dead for certain: only what was in flight, a message for each of its connections"


def test_a_stopped_worker_whose_command_is_killed_dies_with_it(make_office: MakeOffice) -> None:
    """Whatever lock it holds: nobody would be left to continue or to kill it, and all who come after would wait for it."""
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send()
        until(lambda: len(sink.accepted) > 500, "mail")
        stopped = office.workers()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        run.kill()
        until(lambda: not office.processes(), "the orphans to be gone", seconds=10)
        done = office.resume("--json")
        done.wait()
    counts = parse(done.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert counts["unknown"] <= 2 * 4


def test_an_orphan_that_is_stopped_past_its_lease_does_no_harm_when_it_wakes(make_office: MakeOffice) -> None:
    with SmtpSink([Rule("dot", "stall", to="mute*")], QUIET) as sink:
        office = make_office(sink.port, lease="2s", drain="5s", workers="1")
        write_csv(office.recipients, ["mute@x.example", *PEOPLE[:2_000]])
        run = office.send()
        until(lambda: "mute@x.example" in sink.dots and len(sink.accepted) > 300, "mail")
        (orphan,) = office.workers()
        run.kill()
        os.kill(orphan, signal.SIGSTOP)  # in the 5 s that it waits for the answer that never comes
        done = office.resume("--json")
        assert done.wait() == 3
        assert office.processes() == [orphan]
        accepted, changes = sink.recipients(), office.changes()
        os.kill(orphan, signal.SIGCONT)
        until(lambda: not office.processes(), "the orphan to end")
        assert sink.recipients() == accepted
        assert office.changes() == changes
    counts = parse(done.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
    assert counts["sent"] + counts["unknown"] == 2_001
    assert counts["unknown"] <= CONCURRENT_BATCHES * GROUP_SIZE
