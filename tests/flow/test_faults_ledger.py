"""The ledger equals what the server accepted, recipient by recipient, whatever the server does."""

from __future__ import annotations

import re

from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, assert_adds_up, assert_exact, parse, states, write_csv

RULES = [
    Rule("connect", "hang_up", 421, "4.3.2 come back later", every=7),
    Rule("mail", "hang_up", 421, "4.3.2 shutting down", every=211),
    Rule("rcpt", "reply", 550, "5.1.1 no such user", to="gone*"),
    Rule("rcpt", "reply", 554, "5.7.1 not for you", to="barred*"),
    Rule("rcpt", "reply", 450, "4.2.0 greylisted", to="grey*", first=1),
    Rule("rcpt", "reply", 452, "4.2.2 mailbox full", to="full*", first=2),
    Rule("rcpt", "stall", to="slow*", first=1),
    Rule("rcpt", "garble", to="noise*", first=1),
    Rule("rcpt", "cut", to="half*", first=1),
    Rule("data", "drop", to="nodata*", first=1),
    Rule("data", "reply", 451, "4.3.0 no room", to="room*", first=1),
    Rule("content", "reset", to="early*", first=1),
    Rule("dot", "reply", 451, "4.3.0 try again", to="later*", first=1),
    Rule("dot", "reply", 554, "5.6.0 do not like it", to="bad*"),
    Rule("dot", "hang_up", 421, "4.3.2 going down", to="down*", first=1),
    Rule("dot", "drop", to="lost*"),
    Rule("dot", "reset", to="torn*"),
    Rule("dot", "stall", to="deaf*"),
    Rule("dot", "accept_drop", to="kept*"),
    Rule("dot", "accept_cut", to="cut*"),
    Rule("dot", "accept_garble", to="odd*"),
    Rule("dot", "accept_stall", to="mute*"),
    Rule("dot", "accept_close", to="last*"),
]
ENDS = {
    "bounced": {"gone"},
    "failed": {"barred", "bad"},
    "unknown": {"early", "lost", "torn", "deaf", "kept", "cut", "odd", "mute"},
}
"""`early` too: content this short leaves in one write with its dot."""
EACH = 2
PLAIN = 600


def kind_of(address: str) -> str:
    """The rule that an address is for."""
    return re.sub(r"\d*@.*", "", address)


def test_the_ledger_is_what_the_server_accepted(make_office: MakeOffice) -> None:
    kinds = sorted({rule.to.rstrip("*") for rule in RULES} - {""})
    people = [f"{kind}{n}@x.example" for kind in kinds for n in range(EACH)] + [f"p{n}@x.example" for n in range(PLAIN)]
    with SmtpSink(RULES, Options(keep_content=False)) as sink:
        office = make_office(sink.port, retry_after="1s", connections=8, options="&command_timeout=0.5&dot_timeout=0.5")
        write_csv(office.recipients, people)
        run = office.send("--json")
        assert run.wait(90) == 3, run.stderr
    shown, ledger = parse(run.stdout), office.messages()
    assert_exact(ledger, sink.recipients())
    assert_adds_up(shown)
    assert {state: count for state, count in shown["counts"].items() if state in states(ledger)} == states(ledger)
    for address, message in ledger.items():
        expected = next((state for state, those in ENDS.items() if kind_of(address) in those), "sent")
        assert message.status.label == expected, f"{address}: {message}"
    assert sink.violations == []


def test_too_fast_slows_everybody_down_and_fails_nobody(make_office: MakeOffice) -> None:
    with SmtpSink([], Options(keep_content=False, rate=100)) as sink:
        office = make_office(sink.port, retry_after="1s")
        write_csv(office.recipients, [f"p{n}@x.example" for n in range(400)])
        run = office.send("--json")
        assert run.wait(90) == 0, run.stderr
    assert_exact(office.messages(), sink.recipients())
    refused = sum(line.startswith("MAIL") for line in sink.commands) - len(sink.accepted)
    assert 0 < refused < 1_000, f"{refused} were refused as too fast"


def test_a_message_that_breaks_every_connection_is_tried_again_later_and_holds_up_nobody(make_office: MakeOffice) -> None:
    with SmtpSink([Rule("rcpt", "drop", to="poison*", times=7)], Options(keep_content=False)) as sink:
        office = make_office(sink.port, retry_after="1s")
        write_csv(office.recipients, ["poison@x.example", *(f"p{n}@x.example" for n in range(300))])
        run = office.send("--json")
        assert run.wait(90) == 0, run.stderr
    ledger = office.messages()
    assert_exact(ledger, sink.recipients())
    assert ledger["poison@x.example"].attempt == 2
