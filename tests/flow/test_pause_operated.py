"""`postroom campaign …` from another window while `send` runs: pause, resume, cancel, retry-failed, settle."""

from __future__ import annotations

import time

from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, assert_adds_up, assert_exact, parse, until, write_csv

QUIET = Options(keep_content=False)
PEOPLE = [f"p{n}@x{n % 40}.example" for n in range(6_000)]


def test_paused_from_elsewhere_the_command_ends_and_says_so(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json", "--rate", "1000")
        run.until(lambda: len(sink.accepted) > 300, "mail")
        code, _, said = office.command("campaign", "pause", office.campaign)
        paused = time.time()
        assert (code, said) == (0, f"paused; go on with: postroom send --resume {office.campaign}\n")
        assert run.wait() == 1
        assert sink.accepted[-1].at - paused < 1.5
        shown = parse(run.stdout)
        assert (shown["status"], shown["reason"]) == ("paused", "paused by an operator")
        assert shown["counts"]["sent"] == len(sink.accepted)
        code, _, said = office.command("campaign", "resume", office.campaign)
        assert (code, said) == (0, f"resumed\nno process is working on it now: postroom send --resume {office.campaign}\n")
        assert office.finish() == 0
    assert_exact(office.messages(), sink.recipients())


def test_paused_and_resumed_in_one_breath_it_goes_on(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json", "--rate", "1500")
        run.until(lambda: len(sink.accepted) > 300, "mail")
        for _ in range(3):
            with office.opened() as postroom:
                postroom.campaigns.pause(office.ref, "for a moment")
                postroom.campaigns.resume(office.ref)
            arrived = len(sink.accepted)
            until(lambda: len(sink.accepted) > arrived + 200, "it to go on")  # noqa: B023
        assert run.wait() == 0, run.stderr
    assert_exact(office.messages(), sink.recipients())
    assert parse(run.stdout)["counts"]["sent"] == len(PEOPLE)


def test_cancelled_from_elsewhere_nobody_who_waits_gets_it(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send("--json", "--rate", "300")
        run.until(lambda: len(sink.accepted) > 300, "mail")
        code, _, said = office.command("campaign", "cancel", office.campaign)
        assert code == 0, said
        assert "recipients were skipped" in said
        assert run.wait() == 1
        until(lambda: not office.processes(), "all to end")
    shown, ledger = office.status(), office.messages()
    assert shown["status"] == "cancelled"
    assert_adds_up(shown)
    assert_exact(ledger, sink.recipients())
    assert shown["counts"]["skipped"] + shown["counts"]["sent"] == len(PEOPLE)
    assert shown["counts"]["skipped"] > 0
    code, _, said = office.command("send", "--resume", office.campaign)
    assert code == 1
    assert "it cannot be resumed" in said


def test_failed_ones_are_tried_again_and_unknown_ones_are_settled_by_hand(make_office: MakeOffice) -> None:
    rules = [
        Rule("rcpt", "reply", 554, "5.7.1 not today", to="bad*", first=1),
        Rule("rcpt", "reply", 550, "5.1.1 nobody", to="gone*"),
        Rule("dot", "drop", to="lost*", first=1),
        Rule("dot", "accept_drop", to="kept*", first=1),
    ]
    people = ["bad@x.example", "gone@x.example", "lost@x.example", *PEOPLE[:500]]
    with SmtpSink(rules, QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, people)
        run = office.send("--json")
        assert run.wait() == 3
        counts = parse(run.stdout)["counts"]
        assert (counts["failed"], counts["bounced"], counts["unknown"]) == (1, 1, 1)
        code, _, said = office.command("campaign", "retry-failed", office.campaign)
        assert code == 0
        assert said.startswith("1 messages will be retried\n")
        done = office.resume("--json")
        assert done.wait() == 3
        counts = parse(done.stdout)["counts"]
        assert (counts["failed"], counts["bounced"], counts["unknown"]) == (0, 1, 1)
        code, _, said = office.command("campaign", "settle", office.campaign, "resend")
        assert code == 0
        assert said.startswith("1 messages settled: resend\n")
        done = office.resume("--json")
        assert done.wait() == 3
        ledger = office.messages()
        assert ledger["lost@x.example"].attempt == 2
        assert_exact(ledger, sink.recipients())
        assert parse(done.stdout)["counts"]["sent"] == len(people) - 1


def test_a_running_campaign_is_not_settled_under_its_workers(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE)
        run = office.send("--rate", "150")  # forty seconds: it runs still when both commands have been refused
        run.until(lambda: len(sink.accepted) > 100, "mail")
        for words in (["retry-failed", office.campaign], ["settle", office.campaign, "sent"]):
            code, _, said = office.command("campaign", *words)
            assert code == 1
            assert "pause it first" in said
        run.interrupt()
        assert run.wait() == 1
    assert_exact(office.messages(), sink.recipients())


def test_a_second_command_on_a_running_campaign_watches(make_office: MakeOffice) -> None:
    with SmtpSink([], QUIET) as sink:
        office = make_office(sink.port)
        write_csv(office.recipients, PEOPLE[:4_000])
        run = office.send("--rate", "800", "--json")
        run.until(lambda: len(sink.accepted) > 100, "mail")
        other = office.resume("--json")
        assert other.wait() == run.wait() == 0
        assert "another process is working on this campaign" in other.stderr
        assert parse(other.stdout)["counts"] == parse(run.stdout)["counts"]
    assert_exact(office.messages(), sink.recipients())
