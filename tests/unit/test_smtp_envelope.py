"""An envelope says exactly what the server can take; no address and no content can say more than it should."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.platform.mail import _smtp_envelope
from postroom.platform.mail._smtp_envelope import Offers, read_offers, stuffed
from postroom.platform.mail._smtp_replies import Reply
from postroom.platform.mail.connection_pool import QueuedMessage
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.mail.smtp_url import Dsn
from tests.fakes.delivery import FakeDelivery, message

ALL = Offers(pipelining=True, eightbit=True, smtputf8=True, dsn=True, sized=True)
NONE = Offers()


def pack(
    rcpt: str = "r@example.net",
    *,
    sender: str = "b@example.com",
    content: bytes = b"x\r\n",
    offers: Offers = ALL,
    dsn: Dsn = Dsn.DEFAULT,
) -> tuple[str, Result | None]:
    item = QueuedMessage(FakeDelivery(rcpt, mail_from=sender))
    refusal = _smtp_envelope.pack(item, content, offers, dsn)
    return item.head.decode(), refusal


def test_plain_ascii_asks_for_nothing_special() -> None:
    assert pack(offers=NONE) == ("MAIL FROM:<b@example.com>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n", None)
    assert pack()[0].startswith("MAIL FROM:<b@example.com> SIZE=3\r\n")
    assert pack(sender="")[0].startswith("MAIL FROM:<> SIZE=3\r\n")


def test_eight_bits_and_foreign_addresses_are_announced_only_when_needed() -> None:
    assert "SIZE=12 BODY=8BITMIME\r\n" in pack(content="S: x\r\n\r\nä\r\n".encode())[0]
    assert "BODY" not in pack()[0]
    assert "SIZE=3 SMTPUTF8\r\nRCPT TO:<jürgen@example.net>" in pack("jürgen@example.net")[0]


def test_an_address_beyond_ascii_in_a_header_field_is_announced_as_well() -> None:
    """RFC 6532: whatever the envelope; a body of 8 bits alone needs no more than 8BITMIME."""
    field = "Reply-To: jürgen@example.net\r\n"
    assert "BODY=8BITMIME SMTPUTF8\r\n" in pack(content=f"{field}\r\nx\r\n".encode())[0]
    assert "BODY=8BITMIME SMTPUTF8\r\n" in pack(content=field.encode())[0]
    assert "SMTPUTF8" not in pack(content=f"Subject: x\r\n\r\n{field}".encode())[0]


@pytest.mark.parametrize(
    ("rcpt", "content", "offers", "enhanced"),
    [
        ("r@x", "Reply-To: ä@x\r\n\r\nx\r\n".encode(), Offers(eightbit=True), "5.6.7"),
        ("r@x", b"x" * 99 + b"\r\n", Offers(size=100, sized=True), "5.3.4"),
        ("jürgen@x", b"x\r\n", NONE, "5.6.7"),
        ("r@x", "ä\r\n".encode(), NONE, "5.6.3"),
        ("r@x>\r\nRSET", b"x\r\n", ALL, "5.1.3"),
        ("r@x> NOTIFY=NEVER", b"x\r\n", ALL, "5.1.3"),
        ("", b"x\r\n", ALL, "5.1.3"),
    ],
)
def test_what_cannot_be_sent_is_refused_for_good_without_sending(
    rcpt: str, content: bytes, offers: Offers, enhanced: str
) -> None:
    commands, refusal = pack(rcpt, content=content, offers=offers)
    assert commands == ""
    assert refusal is not None
    assert (refusal.verdict, refusal.code, refusal.enhanced) == (Verdict.PERMANENT, 0, enhanced)
    assert refusal.text


def test_a_message_of_exactly_the_advertised_size_goes() -> None:
    assert pack(content=b"x" * 98 + b"\r\n", offers=Offers(size=100, sized=True))[1] is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_address_breaks_out_of_its_command(rcpt: str, sender: str) -> None:
    try:
        (rcpt + sender).encode()
    except UnicodeEncodeError:
        return
    commands, refusal = pack(rcpt, sender=sender, offers=Offers(smtputf8=True, eightbit=True))
    if refusal is None:
        quoted = r'(?:[^\s<>"]+|"(?:[^"\\]|\\.)*"@[^\s<>"]+)'
        assert re.fullmatch(rf"MAIL FROM:<{quoted}?>( SMTPUTF8)?\r\nRCPT TO:<{quoted}>\r\nDATA\r\n", commands)


@pytest.mark.parametrize(
    ("dsn", "notify"),
    [(Dsn.NEVER, "NEVER"), (Dsn.FAILURE, "FAILURE"), (Dsn.DELAY, "FAILURE,DELAY"), (Dsn.SUCCESS, "SUCCESS,FAILURE,DELAY")],
)
def test_dsn_is_asked_for_where_offered(dsn: Dsn, notify: str) -> None:
    commands, _ = pack(content=message(), dsn=dsn)
    assert f"RCPT TO:<r@example.net> NOTIFY={notify}\r\n" in commands
    assert " RET=HDRS ENVID=1+2Bx+3Dy@example.com\r\n" in commands
    assert "NOTIFY" not in pack(dsn=dsn, offers=NONE)[0]


@given(st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\n", b".\r\n"]), max_size=12).map(b"".join))
def test_stuffed_content_never_holds_a_lone_dot_and_comes_back_the_same(content: bytes) -> None:
    on_wire = b"\r\n" + stuffed(content) + b"\r\n.\r\n"
    assert on_wire.find(b"\n.\r\n") == len(on_wire) - 4
    assert b"\n.\n" not in on_wire
    assert re.sub(rb"(^|\n)\.", rb"\1", stuffed(content)) == content


def test_content_without_a_last_line_end_gets_one() -> None:
    item = QueuedMessage(FakeDelivery("r@x"))
    assert _smtp_envelope.pack(item, b"a", ALL, Dsn.DEFAULT) is None
    assert item.payload == b"a\r\n"


def test_offers_are_read_as_servers_write_them() -> None:
    lines = (
        "mx.example.com",
        "PIPELINING",
        "SIZE 1000",
        "auth=PLAIN LOGIN",
        "AUTH xoauth2",
        "8BITMIME",
        "X-ODD",
        "",
        "STARTTLS",
        "SIZE",
    )
    offers = read_offers(Reply(250, lines[:-1]))
    assert offers == Offers(
        pipelining=True, eightbit=True, starttls=True, size=1000, sized=True, auth=frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    )
    assert read_offers(Reply(250, ("mx", "SIZE what"))).size == 0
