"""Through a real Postfix: accepted, refused and greylisted recipients, and hostile values that arrive byte for byte."""

from __future__ import annotations

import csv
import email
import email.policy
import re

import pytest

from postroom.clock import Instant
from postroom.model.message import MessageStatus, Recipient
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.campaign_kit import MakeOffice, assert_adds_up, assert_exact, parse, until, write_csv
from tests.flow.postfix_kit import postfix, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

HOSTILE = {
    "dots@x.example": ".\r\n.\r\n..\r\n. end",
    "header@x.example": "Ann\r\nBcc: evil@y.example\r\n\r\n<p>mine</p>",
    "smuggle@x.example": "x\r\n.\r\nMAIL FROM:<evil@y.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\n",
    "bare@x.example": "a\rb\nc\n.\nd\r.\re",
    "words@x.example": "Zoë 🎉 שלום مرحبا 中文 \u202egnp.exe\u2066",
    "nul@x.example": "a\x01b\x7fc\x0bd",
    "from@x.example": "From here\nFrom there\n>From",
    "long@x.example": "x" * 5_000 + "é" * 5_000,
    "spaces@x.example": "  lead \t trail \t \n \t\n=20=\n=",
    "html@x.example": "</p><script>alert('\"&<>')</script>{{ 7*7 }}{% raw %}",
}


def test_accepted_refused_and_greylisted(make_office: MakeOffice) -> None:
    """Enough dead addresses that Postfix loses patience (421 after 20 errors), which costs nobody their mail."""
    gone = [f"gone{n}@x.example" for n in range(60)]
    grey = [f"grey{n}@x.example" for n in range(10)]
    plain = [f"p{n}@x{n % 7}.example" for n in range(400)]
    refused = dict.fromkeys(gone, "550 5.1.1 no such user") | {"barred@x.example": "554 5.7.1 not for you"}
    with SmtpSink([], Options(keep_content=False)) as sink, postfix(sink.port, refused) as relay:
        office = make_office(relay.port, retry_after="1s")
        write_csv(office.recipients, [*gone, "barred@x.example", *grey, *plain])
        run = office.send("--json")
        assert run.wait(90) == 3, run.stderr
        until(lambda: len(sink.accepted) >= len(grey) + len(plain), "postfix to deliver")
    shown, ledger = parse(run.stdout), office.messages()
    assert_adds_up(shown)
    assert_exact(ledger, sink.recipients())
    for address, message in ledger.items():
        expected = "bounced" if address in gone else "failed" if address.startswith("barred") else "sent"
        assert message.status.label == expected, message
    assert {ledger[address].attempt for address in grey} == {2}
    assert {ledger[address].code for address in gone} == {550}
    assert all(re.fullmatch("[0-9A-F]{8,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,}", ledger[a].provider_id or "") for a in plain)


def test_hostile_values_arrive_byte_for_byte(make_office: MakeOffice) -> None:
    with SmtpSink() as sink, postfix(sink.port, {}) as relay:
        office = make_office(relay.port)
        with office.recipients.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["email", "note"])
            rows.writerows(HOSTILE.items())
        office.template.write_text("<h1>{{ note[:60] }}</h1>\n<p>{{ note }}</p>")
        run = office.send("--subject", "Hi {{ note[:80] }}", "--json")
        assert run.wait() == 0, office.messages()
        until(lambda: len(sink.accepted) >= len(HOSTILE), "postfix to deliver")
    assert sorted(sink.recipients()) == sorted(HOSTILE)
    assert sink.violations == []
    with office.opened() as postroom:
        composer = postroom.compiler.load(postroom.records.get(office.ref))
    ledger = office.messages()
    for one in sink.accepted:
        message = ledger[one.recipient]
        before = Recipient(
            message.key, message.line, message.address, message.name, message.values, MessageStatus.PENDING, message.attempt - 1
        )
        composed = composer.compose(message.batch, before, message.at or Instant(0)).content
        arrived = re.sub(rb"^Received: .*?\r\n(?=\S)", b"", one.content, count=1, flags=re.DOTALL)
        assert len(arrived) < len(one.content)
        assert without_date(arrived) == without_date(composed)
        parsed = email.message_from_bytes(one.content, policy=email.policy.default)
        assert parsed["Bcc"] is None
        assert not parsed.defects
        assert str(parsed["Subject"]).startswith("Hi")


def without_date(content: bytes) -> bytes:
    """The one field that depends on when."""
    return re.sub(rb"^Date: [^\r\n]*\r\n", b"", content, count=1, flags=re.MULTILINE)
