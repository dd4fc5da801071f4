"""`postroom send` as a shell sees it: exit codes, one object on standard output, one sentence on standard error."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator

import pytest

from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, parse, write_csv

COUNTS = [
    "rows",
    "accepted",
    "invalid",
    "duplicate",
    "suppressed",
    "pending",
    "sending",
    "sent",
    "delivered",
    "deferred",
    "bounced",
    "complained",
    "failed",
    "unknown",
    "skipped",
]
KEYS = [
    "id",
    "name",
    "status",
    "counts",
    "engagement",
    "created_at",
    "started_at",
    "finished_at",
    "messages_per_second",
    "rejected_report",
]


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink([Rule("rcpt", "reply", 550, "5.1.1 nobody", to="gone*")], Options()) as running:
        yield running


@pytest.fixture
def office(make_office: MakeOffice, sink: SmtpSink) -> Office:
    made = make_office(sink.port, workers="1")
    write_csv(made.recipients, ["a@x.example", "b@x.example"])
    return made


def refused(office: Office, *words: str, **settings: str) -> str:
    """The one line that says why; exit code 2."""
    run = office.send(*words, **settings)
    assert run.wait() == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if line.startswith("postroom: ")]
    assert len(lines) == 1, run.stderr
    return lines[0]


def test_everybody_sent_is_zero_and_the_object_is_as_promised(office: Office, sink: SmtpSink) -> None:
    office.recipients.write_text("email,name\na@x.example,Ann\nnobody,X\nA@X.example,Ann again\nb@x.example,Bob\n")
    run = office.send("--json", "--name", "Spring")
    assert run.wait() == 0
    shown = parse(run.stdout)
    assert [key for key in shown if key in KEYS] == KEYS
    assert list(shown["counts"]) == COUNTS
    assert {name: count for name, count in shown["counts"].items() if count} == {
        "rows": 4,
        "accepted": 2,
        "invalid": 1,
        "duplicate": 1,
        "sent": 2,
    }
    assert shown["engagement"] == {"opened": 0, "clicked": 0, "unsubscribed": 0}
    assert (shown["name"], shown["status"]) == ("Spring", "completed")
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    assert sorted(sink.recipients()) == ["a@x.example", "b@x.example"]
    code, out, _ = office.command("campaign", "show", office.campaign, "--json")
    assert (code, parse(out)) == (0, shown)
    code, out, _ = office.command("campaign", "list", "--json")
    assert (code, json.loads(out)) == (0, [shown])
    code, out, _ = office.command("campaign", "rejected", office.campaign)
    rows = list(csv.reader(out.splitlines()))
    assert [row[:3] for row in rows[1:]] == [["3", "nobody", rows[1][2]], ["4", rows[2][1], "duplicate"]]


def test_finished_but_not_everybody_is_three(office: Office) -> None:
    write_csv(office.recipients, ["a@x.example", "gone@x.example"])
    run = office.send()
    assert run.wait() == 3
    assert "1 bounced: postroom campaign messages" in run.stderr
    code, out, _ = office.command("campaign", "messages", office.campaign, "--status", "bounced")
    assert (code, out) == (0, "gone@x.example  bounced  550 5.1.1 nobody\n")


def test_a_campaign_that_does_not_exist_is_one(office: Office) -> None:
    code, out, said = office.command("send", "--resume", "nothere")
    assert (code, out) == (1, "")
    assert said.startswith("postroom: there is no campaign nothere")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", "CSV"),
        (b"", "empty"),
        (b"\n\n", "no recipients"),
        (b"name,city\nAnn,Rome\n", "address"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ""),
    ],
    ids=["xlsx", "empty", "blank", "no address", "binary"],
)
def test_an_upload_that_is_no_list_is_two_and_says_why(office: Office, sink: SmtpSink, content: bytes, said: str) -> None:
    office.recipients.write_bytes(content)
    run = office.send("--json")
    assert run.wait() == 2, run.stderr
    assert "Traceback" not in run.stderr
    shown = parse(run.stdout)
    assert shown["status"] == "failed"
    assert said in shown["reason"]
    assert sink.accepted == []
    plain = office.send()
    assert plain.wait() == 2
    assert f"failed: {shown['reason']}\n" in plain.stderr


def test_what_is_wrong_before_anything_begins_is_two_and_makes_nothing(office: Office) -> None:
    assert "From: " in refused(office, "--from", "not an address")
    assert "--rate 0" in refused(office, "--rate", "0")
    assert "name=value" in refused(office, "--set", "novalue")
    assert "cannot be read" in refused(office, "--text", "absent.txt")
    assert "cannot be read" in refused(office, "--attach", "absent.pdf")
    assert "cannot be read" in refused(office, "--recipients", "absent.csv")
    assert "cannot be read" in refused(office, "--template", "absent.html")
    assert "POSTROOM_LEASE" in refused(office, lease="1s")
    assert "POSTROOM_WORKERS?" in refused(office, workrs="2")
    assert "POSTROOM_MAIL" in refused(office, mail="smpt://x")
    assert "s3cret" not in refused(office, mail="smtp://user:s3cret@relay.example?tsl=none")
    office.template.write_text("<p>{{ name </p>")
    assert "line 1" in refused(office)
    code, out, said = office.command("send", "--from", "a@a.example")
    assert (code, out) == (2, "")
    assert "missing --template, --recipients, --subject" in said
    code, out, _ = office.command("campaign", "list", "--json")
    assert (code, out) == (0, "[]\n")


def test_a_dry_run_composes_everything_sends_nothing_and_keeps_nothing(office: Office, sink: SmtpSink) -> None:
    office.recipients.write_text("email,name\na@x.example,Ann\nnobody,X\nb@x.example,\n")
    run = office.send("--dry-run", "--json")
    assert run.wait() == 3, "one row lacks what the template needs"
    shown = parse(run.stdout)
    assert (shown["rows"], shown["accepted"], shown["invalid"], shown["not_composed"]) == (3, 2, 1, 1)
    assert "name" in shown["problems"][0]
    again = office.send("--dry-run", "--missing", "empty")
    assert again.wait() == 0
    assert "\nSubject: Hi" in again.stdout
    assert sink.connections == 0
    code, out, _ = office.command("campaign", "list", "--json")
    assert (code, out) == (0, "[]\n")
    kept = [path for path in office.data.rglob("*") if path.is_file() and b"Ann" in path.read_bytes()]
    assert kept == []
    office.recipients.write_bytes(b"PK\x03\x04")
    assert office.send("--dry-run").wait() == 2


def test_values_of_a_row_reach_only_its_own_mail(office: Office, sink: SmtpSink) -> None:
    office.recipients.write_text('email,name\na@x.example,"<b>Ann</b>"\nb@x.example,"Bob\nBcc: evil@y.example"\n')
    assert office.send().wait() == 0
    by_recipient = {one.recipient: one.content for one in sink.accepted}
    assert sorted(by_recipient) == ["a@x.example", "b@x.example"]
    assert b"&lt;b&gt;Ann" in by_recipient["a@x.example"]
    assert b"\nBcc:" not in by_recipient["b@x.example"].split(b"\r\n\r\n")[0]
