"""Whole mails as systems send them (tests/data/bounces): what each is, and what it says of whom."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from postroom.events.bounce_parser import ArfReport, DeliveryReport, parse_report, primary_recipient

MAILS = Path(__file__).parents[1] / "data" / "bounces"
EXPECTED: dict[str, dict[str, str]] = tomllib.loads((MAILS / "expected.toml").read_text("utf-8"))


def read(name: str) -> bytes:
    return (MAILS / f"{name}.eml").read_bytes()


def test_every_mail_has_its_expectation() -> None:
    assert {path.stem for path in MAILS.glob("*.eml")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_mail(name: str, line_end: bytes) -> None:
    expected = EXPECTED[name]
    reading = parse_report(read(name).replace(b"\n", line_end))
    assert type(reading).__name__ == expected["kind"]
    if isinstance(reading, ArfReport):
        assert reading.feedback_type == expected["report"]
    if isinstance(reading, DeliveryReport):
        recipient = primary_recipient(reading)
        assert (recipient.action, recipient.address) == (expected["action"], expected["address"])
        if "type" in expected:
            assert recipient.bounce == (expected["type"], expected["category"], expected["code"])


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected["kind"] == "DeliveryReport"])
def test_what_is_returned_says_nothing_about_the_recipient(name: str) -> None:
    """The returned mail is our own; its words are not the server's."""
    reading = parse_report(read(name))
    assert isinstance(reading, DeliveryReport)
    assert all("Hello, this mailbox is full of news" not in recipient.diagnostic for recipient in reading.recipients)


def test_a_feedback_report_names_whom_and_what_it_is_about() -> None:
    reading = parse_report(read("arf-abuse"))
    assert isinstance(reading, ArfReport)
    assert reading.recipients == ("someone@example.org",)
    assert reading.user_agent == "SomeFBL/1.0"
    assert reading.quoted.message_id == "<20260102.1@mail.example.com>"
    assert reading.quoted.feedback_id == "2345672345672345:default:campaign:postroom"


def test_only_the_beginning_of_a_large_mail_is_read_and_that_is_enough() -> None:
    reading = parse_report(read("postfix").replace(b"Hello", b"Hello" * 2_000_000))
    assert isinstance(reading, DeliveryReport)
    assert reading.recipients[0].bounce.code == "5.1.1"


SEVERAL = b"""From: MAILER-DAEMON@mx.example.net
Subject: Delivery status notification
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

Hi! There was an error with these:

someone@example.org: 552 The mailbox is full
other@example.org: 550 No such user

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; someone@example.org
Action: failed
Status: 5.0.0

Final-Recipient: rfc822; other@example.org
Action: failed
Status: 5.0.0
--b--
"""


def test_several_recipients_are_told_apart_by_the_lines_about_them() -> None:
    reading = parse_report(SEVERAL)
    assert isinstance(reading, DeliveryReport)
    assert [(each.address, each.bounce.category) for each in reading.recipients] == [
        ("someone@example.org", "quota"),
        ("other@example.org", "mailbox"),
    ]
