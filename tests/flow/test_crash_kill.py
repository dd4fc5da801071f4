"""kill -9 of any process, again and again, then `--resume`: everybody is accounted for, nobody is written to twice.

The bound on `unknown` that is proven here: what a killed worker had really in flight, at most its connections. Only when its
journal is lost too, as after a power cut, it is its open groups: 128 messages for each batch it had in hand.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest

from postroom.model.batch import GROUP_SIZE
from postroom.model.message import MessageStatus
from postroom.pipeline.sender.run import CONCURRENT_BATCHES
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, Run, assert_adds_up, assert_exact, parse, until, write_csv

CONNECTIONS = 4
PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(12_000)]
KILLS = 7
QUIET = Options(keep_content=False)


class Killer:
    """Kills processes of an installation by chance, and starts what a user would start again."""

    def __init__(self, office: Office, seed: int, *words: str) -> None:
        self.office = office
        self.chance = random.Random(seed)
        self.words = words
        self.run = office.send(*words)
        self.workers_killed = 0
        self.kills = 0

    def kill_one(self) -> None:
        """One process of the tree; a killed command is resumed, or begun again where it had made nothing yet."""
        victims = self.office.processes()
        if not victims:
            return
        victim = self.chance.choice(victims)
        self.workers_killed += victim in self.office.workers()
        self.kills += 1
        os.kill(victim, signal.SIGKILL)
        if victim == self.run.process.pid:
            self.run.process.wait()
            self.run = self.again()

    def again(self) -> Run:
        return self.office.resume("--json") if self.office.said_campaign else self.office.send(*self.words)

    def finish(self) -> int:
        """Until the campaign has ended."""
        code = self.run.wait(90)
        if code == 1:  # a worker's loss is no failure of the command: it may only have met a file lock of the dying
            raise AssertionError(self.run.stderr)
        return code


def kill_while_sending(killer: Killer, sink: SmtpSink) -> None:
    """At moments that lie by chance between two numbers of accepted messages."""
    while killer.kills < KILLS and killer.run.running:
        mark = len(sink.accepted) + killer.chance.randrange(1, 1_200)
        late = time.monotonic() + 1.0
        until(lambda: len(sink.accepted) >= mark or time.monotonic() > late or not killer.run.running, "mail")  # noqa: B023
        killer.kill_one()


@pytest.mark.parametrize("seed", [1, 2])
def test_nobody_is_lost_and_nobody_is_written_to_twice(make_office: MakeOffice, seed: int) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS)
        write_csv(office.recipients, PEOPLE)
        killer = Killer(office, seed)
        kill_while_sending(killer, sink)
        code = killer.finish()
        until(lambda: not office.processes(), "the last worker to end")
    ledger, shown = office.messages(), office.status()
    assert killer.kills >= 3
    assert set(ledger) == set(PEOPLE)
    assert_exact(ledger, sink.recipients())
    assert_adds_up(shown)
    counts = shown["counts"]
    assert shown["status"] == "completed"
    assert counts["sent"] + counts["unknown"] == len(PEOPLE)
    assert code == (3 if counts["unknown"] else 0)
    assert counts["unknown"] <= CONNECTIONS * killer.workers_killed
    last = {change.key: change.status for change in office.changes()}
    assert last == {message.key: message.status for message in ledger.values()}


def test_under_never_missed_everybody_gets_it_and_only_what_was_in_flight_may_come_twice(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS, settle_after="1s")
        write_csv(office.recipients, PEOPLE)
        killer = Killer(office, 3, "--unknown", "never_missed")
        kill_while_sending(killer, sink)
        assert killer.finish() == 0
        until(lambda: not office.processes(), "the last worker to end")
    ledger = office.messages()
    doubted = {change.key for change in office.changes() if change.status is MessageStatus.UNKNOWN}
    assert killer.kills >= 3
    assert set(sink.recipients()) == set(PEOPLE) == set(ledger)
    assert {message.status for message in ledger.values()} == {MessageStatus.SENT}
    assert_exact(ledger, sink.recipients(), twice=(address for address, message in ledger.items() if message.key in doubted))
    assert len(doubted) <= CONNECTIONS * killer.workers_killed


def test_an_import_that_is_killed_again_and_again_counts_every_row_once(make_office: MakeOffice) -> None:
    unique, rows = 3_000, 160_000  # four chunks
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS)
        write_csv(office.recipients, (PEOPLE[n % unique] for n in range(rows)))
        killer = Killer(office, 4)
        until(lambda: office.said_campaign, "the campaign to exist")
        while killer.kills < KILLS and not sink.accepted:
            moment = time.monotonic() + killer.chance.uniform(0.1, 1.2)
            until(lambda: time.monotonic() > moment or bool(sink.accepted), "the moment")  # noqa: B023
            killer.kill_one()
        code = killer.finish()
        until(lambda: not office.processes(), "the last worker to end")
    shown = office.status()
    counts = shown["counts"]
    assert killer.kills >= 3
    assert_adds_up(shown)
    assert (counts["rows"], counts["accepted"], counts["duplicate"]) == (rows, unique, rows - unique)
    assert_exact(office.messages(), sink.recipients())
    assert code == (3 if counts["unknown"] else 0)
    with office.opened() as postroom, postroom.objects.open(str(shown["rejected_report"])) as report:
        lines = Counter(line.split(b",")[0] for line in report.read().splitlines()[1:])
    assert len(lines) == rows - unique
    assert set(lines.values()) == {1}


def test_after_a_power_cut_whole_groups_are_in_doubt_and_nobody_gets_it_twice(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS)
        write_csv(office.recipients, PEOPLE[:6_000])
        run = office.send()
        run.until(lambda: len(sink.accepted) > 1_500, "mail")
        for pid in office.processes():
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        until(lambda: not office.processes(), "all to be dead")
        locks = list((office.data / "journals").glob("*/*/lock"))
        assert locks
        for lock in locks:
            lock.write_text("another boot")
        done = office.resume("--json")
        assert done.wait() == 3
    counts = parse(done.stdout)["counts"]
    assert 0 < counts["unknown"] <= 2 * CONCURRENT_BATCHES * GROUP_SIZE
    assert counts["sent"] + counts["unknown"] == 6_000
    assert_exact(office.messages(), sink.recipients())


def test_killing_the_command_alone_leaves_nothing_in_doubt(make_office: MakeOffice) -> None:
    """Its workers notice, drain what is in flight, and end."""
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS)
        write_csv(office.recipients, PEOPLE[:6_000])
        run = office.send()
        run.until(lambda: len(sink.accepted) > 1_500, "mail")
        run.kill()
        until(lambda: not office.processes(), "the orphans to end", seconds=10)
        assert len(sink.accepted) < 6_000
        assert office.status()["counts"]["sent"] == len(sink.accepted)
        assert office.finish() == 0
    assert_exact(office.messages(), sink.recipients())


def test_killed_while_the_server_misbehaves_too(make_office: MakeOffice) -> None:
    rules = [
        Rule("connect", "hang_up", 421, "4.3.2 later", every=29),
        Rule("mail", "hang_up", 421, "4.3.2 later", every=499),
        Rule("rcpt", "reply", 550, "5.1.1 nobody", to="p*9@*"),
        Rule("rcpt", "reply", 450, "4.2.0 greylisted", to="p*8@*", first=1),
        Rule("dot", "reply", 451, "4.3.0 again", to="p*71@*", first=1),
        Rule("dot", "drop", to="p*13@*", times=3),
        Rule("dot", "accept_drop", to="p*33@*", times=3),
        Rule("dot", "accept_garble", to="p*53@*", times=3),
    ]
    people = PEOPLE[:6_000]
    with SmtpSink(rules, QUIET) as sink:
        office = make_office(sink.port, connections=CONNECTIONS, retry_after="1s", bounce_pause="0")  # a tenth bounces: the limit
        write_csv(office.recipients, people)
        killer = Killer(office, 6)
        kill_while_sending(killer, sink)
        assert killer.finish() == 3
        until(lambda: not office.processes(), "the last worker to end")
    ledger, shown = office.messages(), office.status()
    assert killer.kills >= 3
    assert_exact(ledger, sink.recipients())
    assert_adds_up(shown)
    assert {message.status.label for message in ledger.values()} <= {"sent", "bounced", "unknown"}
    assert {a for a, message in ledger.items() if message.status is MessageStatus.BOUNCED} >= {
        a for a, message in ledger.items() if "9@" in a and message.status is not MessageStatus.UNKNOWN
    }
    assert shown["counts"]["unknown"] <= CONNECTIONS * killer.workers_killed + 3 * 3
