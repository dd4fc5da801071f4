"""`--at`: it starts then and not before, and a schedule that went stale while nothing ran asks a person."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, Run, assert_exact, parse, until, write_csv

QUIET = Options(keep_content=False)
PEOPLE = [f"p{n}@x.example" for n in range(50)]
FAR = ZoneInfo("Asia/Kathmandu")  # +05:45


def in_a_moment(seconds: float, zone: ZoneInfo = FAR) -> datetime:
    """On the wall clock of a zone."""
    return datetime.fromtimestamp(time.time() + seconds, zone).replace(tzinfo=None)


def schedule(office: Office, at: datetime, *words: str) -> Run:
    """Send then; returns once it is scheduled."""
    write_csv(office.recipients, PEOPLE)
    run = office.send("--json", "--at", at.isoformat(), "--timezone", FAR.key, *words)
    until(lambda: "scheduled for" in run.stderr or not run.running, "the schedule")
    return run


def switch_off(office: Office, run: Run) -> None:
    """The machine is off."""
    for pid in office.processes():
        os.kill(pid, signal.SIGKILL)
    run.process.wait()
    until(lambda: not office.processes(), "all to end")


def test_it_starts_at_that_time_of_that_zone(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, schedule_grace="0s")
        at = in_a_moment(5)
        run = schedule(office, at)
        assert sink.accepted == []
        assert run.wait() == 0, run.stderr
        moment = at.replace(tzinfo=FAR).timestamp()
        assert moment <= min(one.at for one in sink.accepted) < moment + 3
    shown = parse(run.stdout)
    assert datetime.fromisoformat(shown["scheduled_at"]).timestamp() == pytest.approx(moment, abs=0.001)
    assert_exact(office.messages(), sink.recipients())


def test_off_and_on_again_before_its_time_it_still_waits_for_it(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        at = in_a_moment(5)
        switch_off(office, schedule(office, at))
        assert office.finish() == 0
        assert min(one.at for one in sink.accepted) >= at.replace(tzinfo=FAR).timestamp()
    assert_exact(office.messages(), sink.recipients())


def test_paused_before_its_time_and_resumed_it_still_waits_for_it(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        at = in_a_moment(7)
        run = schedule(office, at)
        run.interrupt()
        assert run.wait() == 1
        assert parse(run.stdout)["status"] == "paused"
        assert office.finish() == 0
        assert min(one.at for one in sink.accepted) >= at.replace(tzinfo=FAR).timestamp()


def test_its_time_passed_while_the_machine_was_off(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, schedule_grace="0s")
        at = in_a_moment(5)
        run = schedule(office, at)
        switch_off(office, run)
        until(lambda: time.time() > at.replace(tzinfo=FAR).timestamp() + 1.2, "the time to pass")
        late = office.resume("--json")
        assert late.wait() == 1
        shown = parse(late.stdout)
        assert shown["status"] == "paused"
        assert "its time passed" in shown["reason"]
        assert sink.accepted == []
        assert office.finish() == 0, "a person decided"
    assert_exact(office.messages(), sink.recipients())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "2032-03-28T02:30", "--timezone", "Europe/Paris"], "does not exist in Europe/Paris"),
        (["--at", "2032-03-28T02:30", "--timezone", "Europe/Pariss"], "is no IANA time zone"),
        (["--at", "tomorrow"], "write 2026-12-01T09:00"),
        (["--at", "2001-01-01T00:00"], "has passed"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(make_office: MakeOffice, words: list[str], said: str) -> None:
    office = make_office(1)
    write_csv(office.recipients, PEOPLE)
    run = office.send(*words)
    assert run.wait() == 2
    assert said in run.stderr
    assert not office.said_campaign
