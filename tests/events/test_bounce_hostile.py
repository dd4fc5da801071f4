"""Whoever can reach the listener writes these mails: nothing raises, nothing runs long, whatever comes."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.events.bounce_parser import classify, event_from_report, parse_report
from postroom.events.bounce_parser.mime import MAX_DEPTH, MAX_PARSED_BYTES, MAX_PARTS, parse_mime
from postroom.model.event import MAX_DETAIL, MAX_RAW
from postroom.model.ids import Key
from postroom.model.tokens import MessageRef

REF = MessageRef(1, "2" * 16, 7, Key(bytes(12)), 1)
LIMIT_S = 0.5
"""Ten times what the slowest takes on the slow machine: a quadratic step would need minutes for these."""

KB, MB = 1024, 1024 * 1024


def nested(levels: int) -> bytes:
    """Multiparts in multiparts."""
    return b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(levels)) + b"\nthe end"


def enclosed(levels: int) -> bytes:
    return b"Content-Type: message/rfc822\n\n" * levels + b"Subject: x\n\nthe end"


def report(field: bytes) -> bytes:
    """A delivery report with one field that goes wrong."""
    return (
        b"From: MAILER-DAEMON@example.com\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nSorry.\n"
        b"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.com\n\nFinal-Recipient: rfc822; a@example.com\n"
        b"Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; " + field + b"\n--b--\n"
    )


def bounce(text: bytes, head: bytes = b"") -> bytes:
    return b"Return-Path: <>\nFrom: MAILER-DAEMON@example.com\nSubject: Undeliverable\n" + head + b"\n" + text


BOMBS = {
    "empty": b"",
    "only line ends": b"\n" * MB,
    "only carriage returns": b"\r" * MB,
    "50 MB of one letter": b"x" * (50 * MB),
    "50 MB of NUL": b"\0" * (50 * MB),
    "no header ends": b"X: y\n" * MB,
    "one endless header": b"Subject: " + b"x" * (2 * MB),
    "a header folded for ever": b"Subject: x\n" + b" y\n" * MB,
    "blanks in folds": b"Subject: x" + (b"\n" + b" " * 70) * (3 * KB) + b"\n\n",
    "encoded words": b"From: MAILER-DAEMON@x\nSubject: " + b"=?utf-8?Q?=41?= " * (20 * KB) + b"\n\n550",
    "encoded words without an end": b"From: MAILER-DAEMON@x\nSubject: " + b"=?utf-8?Q?" * (20 * KB) + b"\n\n550",
    "nested multiparts": nested(3_000),
    "mails in mails": enclosed(9_000),
    "thousands of parts": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (40 * KB),
    "boundaries that begin with the boundary": b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + b"--bb\nx\n" * (40 * KB),
    "an empty boundary": b'Content-Type: multipart/mixed; boundary=""\n\n' + b"--\n" * (80 * KB),
    "boundaries that are none": b"Content-Type: multipart/mixed\n\n" + b"--x y\n" * (40 * KB),
    "parameters": b"Content-Type: text/plain" + b"; a" * (80 * KB) + b"\n\nx",
    "blanks between parameters": b"Content-Type: text/plain;" + b" " * MB + b"\n\nx",
    "base64 of base64": b"Content-Transfer-Encoding: base64\nContent-Type: message/rfc822\n\n" + b"QUJD" * (64 * KB),
    "base64 that is none": b"Content-Transfer-Encoding: base64\n\n" + b"=" * MB,
    "quoted-printable that is none": b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=" * MB,
    "soft line ends": b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=\n" * MB,
    "HTML that never ends": b"From: MAILER-DAEMON@x\nContent-Type: text/html\n\n" + b"<style" * (40 * KB),
    "HTML of brackets": b"From: MAILER-DAEMON@x\nContent-Type: text/html\n\n" + b"<" * MB,
    "HTML of entities": b"From: MAILER-DAEMON@x\nContent-Type: text/html\n\n" + b"&#x" * MB,
    "a number of too many digits": b"From: MAILER-DAEMON@x\nContent-Type: text/html\n\n&#" + b"9" * (30 * KB) + b";",
    "a hexadecimal number of too many digits": b"From: MAILER-DAEMON@x\nContent-Type: text/html\n\n&#x" + b"f" * (30 * KB),
    "a charset that is quadratic": bounce(b"\xff-" * (128 * KB), b"Content-Type: text/plain; charset=punycode\n"),
    "a charset that unpacks": bounce(b"x\x9c" * (64 * KB), b"Content-Type: text/plain; charset=zlib\n"),
    "a charset that nobody knows": bounce(b"\xff" * (64 * KB), b"Content-Type: text/plain; charset=" + b"u" * (64 * KB) + b"\n"),
    "addresses": bounce(b"a@b.c " * (40 * KB)),
    "address lines": bounce(b"<a@b.c>:\n" * (40 * KB)),
    "lines of what may begin an address line": bounce(b"-*> \t<" * (40 * KB) + b"@"),
    "local parts without an end": bounce(b"a" * (128 * KB) + b"@"),
    "at signs": bounce(b"@" * MB),
    "labels": bounce(b"to" + b" " * 200 + b":" + b" " * 200 + b"@\n" * KB),
    "brackets in a reply": report(b"<" * MB),
    "digits in a reply": report(b"5.1." * MB),
    "reply codes": report(b"550-5.1.1 " * (100 * KB)),
    "codes without an end": report(b"550-" * (250 * KB)),
    "words that almost say something": report(b"mailbox " * (120 * KB)),
    "beginnings of phrases": report(b"user account mailbox message ip recipient address domain host exceeded " * (3 * KB)),
    "thousands of recipients": report(b"x\n" + b"\nFinal-Recipient: rfc822; a@b.c\nAction: failed\n" * (4 * KB)),
    "fields of a report": report(b"x\n" + b"Status: 5.1.1\n" * (16 * KB)),
    "our marks": bounce(b"/t/o/" * (40 * KB) + b"/u/" * (40 * KB)),
    "return paths": bounce((b"b" + b"a" * 59 + b"@") * (4 * KB)),
    "a date": b"Date: " + b"1 jan 2026 " * (20 * KB) + b"\n\nx",
    "dates of no calendar": b"Date: Thu, 99 Foo 9999 99:99:99 +9999\n\nx",
    "a year too many": b"Date: Fri, 31 Dec 9999 23:59:59 -2359\n\nx",
    "subject prefixes": b"Subject: " + b"Re: " * (100 * KB) + b"\n\nx",
    "lone surrogates": b"Subject: \xed\xa0\x80\nFrom: MAILER-DAEMON@x\nContent-Type: text/plain; charset=utf-16\n\n550 "
    + b"\x00\xd8" * KB,
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_bombs_are_read_in_bounded_time(raw: bytes) -> None:
    started = time.process_time()
    reading = parse_report(raw, recipient="b" + "a" * 59 + "@bounce.example.com")
    assert time.process_time() - started < LIMIT_S
    assert len(reading.raw) <= MAX_RAW
    reading.raw.encode("utf-8")


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_bombs_take_no_more_memory_than_the_limits_say(raw: bytes) -> None:
    _, parts = parse_mime(raw)
    assert len(parts) <= MAX_PARTS
    assert sum(len(part.body) for part in parts) <= (MAX_DEPTH + 1) * MAX_PARSED_BYTES


PIECES = [
    b"\n", b"\r\n", b"\r", b"\0", b"\xff", b" ", b"--b", b"--", b"b", b"@", b"<", b">", b":", b";", b"=?", b"?=", b"=?utf-8?q?", b"=", b"a@b.c",
    b"Content-Type: multipart/report; boundary=b\n", b"Content-Type: message/delivery-status\n", b"Content-Type: message/rfc822\n",
    b"Content-Type: message/feedback-report\n", b"Content-Type: text/html; charset=utf-7\n", b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: quoted-printable\n", b"Final-Recipient: rfc822; a@b.c\n", b"Action: failed\n", b"Status: 5.1.1\n",
    b"Diagnostic-Code: smtp; 550 5.1.1 user unknown\n", b"From: MAILER-DAEMON\n", b"Subject: Undeliverable\n", b"Auto-Submitted: auto-replied\n",
    b"Return-Path: <>\n", b"Feedback-Type: abuse\n", b"550-5.1.1 ", b"said: ", b"X-Failed-Recipients: a@b.c\n", b"Date: 31 Feb 2026 25:61\n",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400), st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=5)), max_size=60).map(b"".join)
    )
)
def test_nothing_raises_and_all_can_be_stored(raw: bytes) -> None:
    reading = parse_report(raw, recipient="someone@example.com")
    event = event_from_report(reading, REF, at=Instant(1_790_000_000_000))
    assert re.search(r"\\x[01][0-9a-f]|\\ud[89a-f]", repr(reading).replace("\\\\", "")) is None
    if event is not None:
        assert len(event.id) <= 100
        assert len(event.detail) <= MAX_DETAIL
        (event.detail + event.raw + (event.bounce.code if event.bounce else "")).encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20), st.text(max_size=300), st.sampled_from(["failed", "delayed", ""]))
def test_any_words_are_classified(status: str, words: str, action: str) -> None:
    bounce = classify(status, words, action)
    assert len(bounce.code) <= 7
