"""`postroom serve` is a tree of processes: each may die, one server works on a data directory, and all ends when told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from postroom.model.message import MessageStatus
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.campaign_kit import until, write_csv
from tests.flow.serve_kit import Served, served

FROM = "News <news@shop.example>"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as office:
        yield office


@contextmanager
def slow_sink(root: Path, seconds: float) -> Iterator[tuple[SmtpSink, Served]]:
    """A relay that takes its time to answer each message, and an installation that sends through it."""
    with ExitStack() as ending:
        sink = ending.enter_context(SmtpSink([Rule("dot", "late", seconds=seconds)]))
        yield sink, ending.enter_context(served(root, mail=f"smtp://127.0.0.1:{sink.port}?tls=none&connections=2"))


def ordered(office: Served, addresses: int) -> tuple[str, dict[str, str]]:
    """A campaign's id, and what it was ordered with."""
    caller = office.key()
    office.command("sender", "trust", "shop.example")
    rows = "email,name\n" + "".join(f"p{n}@example.com,N {n}\n" for n in range(addresses))
    body = {
        "name": "News",
        "template_id": caller.template("<p>Hello {{ name }}</p>"),
        "upload_id": caller.upload(rows.encode()),
        "from": FROM,
    }
    return caller.call("POST", "/v1/campaigns", 201, body)["id"], body


@pytest.mark.parametrize("word", ["http", "worker", "timers", "feedback", "inbox-server"])
def test_a_process_that_dies_is_started_again(office: Served, word: str) -> None:
    server = office.serve()
    (victim, *_) = office.role(word)
    os.kill(victim, signal.SIGKILL)
    server.until(lambda: victim not in office.processes() and office.role(word) != [], f"another {word}")
    server.until(office.ready, "the door to be ready")
    campaign, _ = ordered(office, 50)
    status = office.key().settled(campaign)
    assert (status["status"], status["counts"]["sent"]) == ("completed", 50)


def test_the_death_of_the_server_ends_its_processes_and_the_next_goes_on(tmp_path: Path) -> None:
    with slow_sink(tmp_path, 0.02) as (sink, office):
        server = office.serve()
        campaign, _ = ordered(office, 400)
        until(lambda: len(sink.accepted) > 50, "some to be sent")
        server.kill()
        until(lambda: not office.processes(), "all processes to end")
        office.serve()
        status = office.key().settled(campaign)
        counts = status["counts"]
        assert (status["status"], counts["sent"] + counts["unknown"]) == ("completed", 400)
        assert counts["unknown"] == 0, "its workers drained what they had in flight"
        assert len(sink.accepted) == 400


def test_a_second_server_says_so_and_stops(office: Served) -> None:
    office.serve()
    code, _, err = office.command("serve")
    assert code == 1
    assert "another server is running" in err
    assert office.ready()


def test_a_port_that_is_taken_is_said_at_once(office: Served, tmp_path: Path) -> None:
    office.serve()
    code, _, err = office.command("serve", "--data", str(tmp_path / "other"))
    assert code == 2
    assert "cannot listen" in err


def test_send_beside_a_server_hands_the_campaign_over_and_watches(office: Served) -> None:
    office.serve()
    write_csv(office.recipients, [f"p{n}@example.com" for n in range(120)])
    workers = office.role("worker")
    run = office.send("--json")
    assert run.wait() == 0, run.stderr
    assert "a server runs on this data" in run.stderr
    assert '"status": "completed"' in run.stdout
    assert office.role("worker") == workers, "nobody else's workers were needed"


def test_send_takes_over_where_the_server_ends(tmp_path: Path) -> None:
    with slow_sink(tmp_path, 0.02) as (sink, office):
        server = office.serve()
        write_csv(office.recipients, [f"p{n}@example.com" for n in range(300)])
        run = office.send()
        until(lambda: len(sink.accepted) > 30, "some to be sent")
        server.process.terminate()
        assert server.wait(30) == 0
        assert run.wait() == 0, run.stderr
        assert len(sink.accepted) == 300


def test_sigterm_drains_what_is_in_flight(tmp_path: Path) -> None:
    with slow_sink(tmp_path, 0.3) as (sink, office):
        server = office.serve()
        campaign, _ = ordered(office, 200)
        until(lambda: len(sink.accepted) > 4, "some to be sent")
        server.process.terminate()
        assert server.wait(30) == 0
        assert not office.processes()
        with office.opened() as postroom:
            home = next(iter(postroom.records.unfinished()))
            assert home.campaign == campaign
            states = [message.status for message in postroom.messages.list(home, limit=1_000).messages]
        assert MessageStatus.UNKNOWN not in states
        assert states.count(MessageStatus.SENT) == len(sink.accepted)
