"""The server's side of SMTP: what is taken, what is refused, and what a stranger can make it hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Unavailable
from postroom.platform.mail.listener_session import (
    MAX_COMMANDS,
    MAX_LINE,
    MAX_MAILS,
    MAX_MISTAKES,
    MAX_RECIPIENTS,
    ListenerConfig,
    NextStep,
    SmtpServerSession,
)

TERMS = ListenerConfig(name="mx.example", max_bytes=10_000, kept_bytes=100)
OURS = "b@bounces.example"
ENVELOPE = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@bounces.example>\r\nDATA\r\n"


class Client:
    """Somebody at the other end, whose mails all get `250`."""

    def __init__(self, terms: ListenerConfig = TERMS) -> None:
        self.dialogue = SmtpServerSession(terms, lambda address: address == OURS)
        self.mails: list[bytes] = []
        self.over = False
        self.wants = NextStep.MORE
        self.said()

    def send(self, data: bytes) -> list[str]:
        """And the replies to it, whole lines."""
        self.dialogue.receive(data)
        while (wants := self.dialogue.go_on()) is NextStep.VERDICT:
            self.mails.append(self.dialogue.mail.content)
            self.dialogue.answer(250, "2.0.0 Ok")
        self.wants = wants
        self.over = wants is NextStep.END
        return self.said()

    def said(self) -> list[str]:
        lines = self.dialogue.replies.decode().split("\r\n")[:-1]
        self.dialogue.replies.clear()
        return lines

    def codes(self, data: bytes) -> list[int]:
        return [int(line[:3]) for line in self.send(data) if line[3] == " "]


def test_a_mail_by_the_book() -> None:
    client = Client()
    assert client.codes(ENVELOPE) == [250, 250, 250, 354]
    assert client.codes(b"Subject: x\r\n\r\n..a\r\n.b\r\n.\r\nQUIT\r\n") == [250, 221]
    assert client.mails == [b"Subject: x\r\n\r\n.a\r\nb\r\n"]
    assert client.over


def test_it_offers_what_it_can() -> None:
    lines = Client().send(b"EHLO me\r\n")
    assert [line[4:] for line in lines] == [
        "mx.example",
        "PIPELINING",
        "SIZE 10000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ]
    assert Client().send(b"HELO me\r\n") == ["250 mx.example"]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (b"MAIL FROM:<>\r\n", 503),
        (b"EHLO\r\n", 501),
        (b"EHLO me\r\nRCPT TO:<b@bounces.example>\r\n", 503),
        (b"EHLO me\r\nDATA\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<>\r\nDATA\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<> SIZE=10001\r\n", 552),
        (b"EHLO me\r\nMAIL FROM:<> SIZE=10000 BODY=8BITMIME SMTPUTF8\r\n", 250),
        (b"EHLO me\r\nMAIL FROM:<> RET=HDRS\r\n", 555),
        (b"EHLO me\r\nMAIL FROM: nobody\r\n", 501),
        (b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\n", 550),
        (b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<@a,@b:b@bounces.example>\r\n", 250),
        (b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@bounces.example> NOTIFY=NEVER\r\n", 501),
        (b"EHLO me\r\nSTARTTLS\r\n", 500),
        (b"EHLO me\r\nAUTH PLAIN AGEAYg==\r\n", 500),
        (b"EHLO me\r\nBDAT 5 LAST\r\n", 500),
        (b"VRFY b\r\n", 252),
        (b"NOOP\r\n", 250),
        (b"RSET\r\n", 250),
        (b"\xff\xfe\r\n", 500),
        (b"NO\0OP\r\n", 500),
        (b"NOOP\n", 500),
        (b"NO\rOP\r\n", 500),
    ],
)
def test_each_command_has_its_reply(lines: bytes, code: int) -> None:
    assert Client().codes(lines)[-1] == code


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_it_makes_no_difference_how_the_bytes_arrive(sizes: list[int]) -> None:
    mail = b"Subject: x\r\n\r\n.\r\r\n..\n.\nlast line\r\n.\r\n"
    talk = ENVELOPE + mail + b"MAIL FROM:<a@b>\r\nRCPT TO:<no@where>\r\nRCPT TO:<b@bounces.example>\r\nDATA\r\n.\r\nQUIT\r\n"
    whole, pieces = Client(), Client()
    expected, found, at, turn = whole.send(talk), [], 0, 0
    while at < len(talk):
        size = sizes[turn % len(sizes)]
        found += pieces.send(talk[at : at + size])
        at, turn = at + size, turn + 1
    assert (found, pieces.mails) == (expected, whole.mails)
    assert len(whole.mails) == 2


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\r\r\n"]
)
def test_a_mail_ends_at_cr_lf_dot_cr_lf_and_nowhere_else(end: bytes) -> None:
    """Else a mail could carry another one inside (SMTP smuggling)."""
    client = Client(ListenerConfig(name="mx", max_bytes=10_000, kept_bytes=10_000))
    client.send(ENVELOPE)
    smuggled = b"MAIL FROM:<>\r\nRCPT TO:<b@bounces.example>\r\nDATA\r\nanother"
    assert client.codes(b"one" + end + smuggled + b"\r\n.\r\n") == [250]
    assert len(client.mails) == 1
    assert b"another" in client.mails[0]


def test_of_a_mail_no_more_is_kept_than_is_read() -> None:
    client = Client()
    client.send(ENVELOPE)
    for _ in range(9):
        assert client.send(b"x" * 1_000) == []
        assert len(client.dialogue._kept) + len(client.dialogue._buffer) <= 110
    assert client.codes(b"\r\n.\r\n") == [250]
    assert client.mails == [b"x" * 100]


def test_a_mail_above_the_limit_is_refused_at_its_end_and_nothing_of_it_is_kept() -> None:
    client = Client()
    client.send(ENVELOPE)
    for _ in range(11):
        assert client.send(b"x" * 1_000) == []
    assert client.codes(b"\r\n.\r\nNOOP\r\n") == [552, 250]
    assert client.mails == []


def test_a_mail_far_above_the_limit_ends_the_connection() -> None:
    client = Client()
    client.send(ENVELOPE)
    assert client.codes(b"x" * 100_100) == [552]
    assert client.over


def test_a_command_without_an_end_ends_the_connection() -> None:
    client = Client()
    assert client.codes(b"x" * MAX_LINE) == [500]
    assert client.over


def test_who_makes_too_many_mistakes_is_sent_away() -> None:
    client = Client()
    assert client.codes(b"WHAT\r\n" * 2 * MAX_MISTAKES) == [500] * MAX_MISTAKES + [421]
    assert client.over


def test_who_only_says_that_they_are_there_is_sent_away() -> None:
    client = Client()
    assert client.codes(b"NOOP\r\n" * 2 * MAX_COMMANDS) == [250] * MAX_COMMANDS + [421]
    assert client.over


def test_a_mail_that_was_answered_is_not_kept() -> None:
    client = Client()
    client.send(ENVELOPE + b"Hello\r\n.\r\n")
    assert client.mails == [b"Hello\r\n"]
    assert client.dialogue.mail.content == b""


def test_guessing_addresses_is_a_mistake_too() -> None:
    client = Client()
    codes = client.codes(b"EHLO me\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<guess@bounces.example>\r\n" * 100)
    assert codes.count(550) == MAX_MISTAKES
    assert client.over


def test_recipients_are_counted() -> None:
    client = Client()
    codes = client.codes(b"EHLO me\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<b@bounces.example>\r\n" * (MAX_RECIPIENTS + 1))
    assert codes[2:] == [250] * MAX_RECIPIENTS + [452]


def test_mails_are_counted() -> None:
    client = Client()
    client.send(b"EHLO me\r\n")
    mail = b"MAIL FROM:<>\r\nRCPT TO:<b@bounces.example>\r\nDATA\r\n.\r\n"
    codes = client.codes(mail * (MAX_MAILS + 5))
    assert len(client.mails) == MAX_MAILS
    assert codes[-1] == 421


def test_what_follows_starttls_in_the_clear_ends_the_connection() -> None:
    """RFC 3207 §4.2, and CVE-2011-0411."""
    client = Client(ListenerConfig(name="mx", max_bytes=10, kept_bytes=10, offers_tls=True))
    assert client.send(b"EHLO me\r\n")[-1] == "250 STARTTLS"
    assert client.codes(b"STARTTLS\r\nMAIL FROM:<>\r\n") == [554]
    assert client.over


def test_tls_forgets_what_was_said_before() -> None:
    client = Client(ListenerConfig(name="mx", max_bytes=10, kept_bytes=10, offers_tls=True))
    client.send(b"EHLO me\r\nMAIL FROM:<>\r\n")
    assert client.codes(b"STARTTLS\r\n") == [220]
    assert client.wants is NextStep.TLS
    client.dialogue.protected()
    assert client.codes(b"RCPT TO:<b@bounces.example>\r\n") == [503]
    assert "250-STARTTLS" not in (lines := client.send(b"EHLO me\r\n"))
    assert lines[-1] == "250 ENHANCEDSTATUSCODES"
    assert client.codes(b"STARTTLS\r\n") == [500]


def test_a_store_that_cannot_be_asked_puts_the_recipient_off() -> None:
    def down(address: str) -> bool:
        raise Unavailable("no answer")

    client = Client()
    client.dialogue = SmtpServerSession(TERMS, down)
    client.said()
    assert client.codes(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@bounces.example>\r\n") == [250, 250, 451]


@given(st.binary(max_size=300))
def test_whatever_comes_is_answered_or_waited_for(noise: bytes) -> None:
    client = Client()
    client.send(b"EHLO me\r\n" + noise + b"\r\n")
    assert client.wants in (NextStep.MORE, NextStep.END)
