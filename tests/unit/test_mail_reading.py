"""Reading mails for people: whatever anybody sent, it is shown, and the list of the others too."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.services.mail_reading import read_body, read_headers

_TOKENS = [
    "<", ">", "@", '"', ",", ";", ":", "(", ")", "[", "]", "\\", "=?utf-8?Q?", "?=", "=?", "a", "b.c", " ", "\t", "\r\n ", ".",
    "=?utf-8?B?", "=F6", "\u00e9", "\x00", "\x80", '"a b"', "<a@[", "<>", "*=", "utf-8\'\'%f", "utf-7\'\'+2AA-", "*0*=", "name", "filename",
    "=", "attachment", "text/plain", "text/html", "multipart/mixed", "message/rfc822", "boundary", "boundary=b", "charset=", "charset*=",
    "x\'\'y", "undefined", "utf-16", "unicode_escape", "=?x?Q?=41?=", "-5", "\ud800", "base64", "x-uuencode", "quoted-printable",
]  # fmt: skip
_NAMES = [
    "From", "Subject", "Delivered-To", "To", "Message-ID", "Date", "Content-Type", "Content-Disposition", "Content-Transfer-Encoding",
    "MIME-Version", "Cc", "\u00e9", "x y",
]  # fmt: skip


def headers(text: str) -> dict[str, str]:
    return dict(read_headers(text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<a@[", "<a@["),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Gr\u00fc\u00dfe"),
        ("=?UTF-8?B?R3LDvMOfZQ==?= <a@b.example>", "Gr\u00fc\u00dfe <a@b.example>"),
        ("=?utf-8?B?R3LDvMOfZQ?=", "Gr\u00fc\u00dfe"),
        ("=?utf-8?q?Gr=C3?=\r\n =?utf-8?q?=BC=C3=9Fe?=", "Gr\u00fc\u00dfe"),
        ("=?iso-8859-1*de?q?Gr=FC=DFe_x?= =?utf-8?q?!?=", "Gr\u00fc\u00dfe x!"),
        ("=?utf-8?b?!!?=", "=?utf-8?b?!!?="),
        ("=?nonsense?q?a?=", "a"),
        ("two\r\n lines", "two lines"),
        ("=?utf-8?q?a=0D=0AInjected:_x?=", "a Injected: x"),
        ("Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe"),
        ("", ""),
    ],
)
def test_values_are_read_where_they_can_be_and_shown_as_they_stand_where_not(value: str, shown: str) -> None:
    assert headers(f"X-Test: {value}\r\n\r\nbody") == {"X-Test": shown}


def test_a_bare_latin_1_byte_is_shown_as_unreadable() -> None:
    assert read_headers(b"Subject: Gr\xfc\xdfe\r\n\r\n")[0][1] == "Gr\ufffd\ufffde"


def test_the_html_is_shown_where_there_is_no_text_and_every_other_part_is_named() -> None:
    part = "--b\r\nContent-Type: {}\r\n{}\r\n{}\r\n"
    content = (
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + part.format("text/html; charset=iso-8859-1", "Content-Transfer-Encoding: quoted-printable\r\n", "<p>=FC</p>")
        + part.format("text/plain", "Content-Disposition: attachment\r\n", "x")
        + part.format("image/png", "Content-Disposition: inline; filename*=utf-8''%C3%BC.png\r\n", "x")
        + part.format("message/rfc822", "", "Subject: within\r\n\r\nnot this text")
        + "--b--\r\n"
    )
    body = read_body(content.encode())
    assert body.text.strip() == "<p>\u00fc</p>"
    assert body.attachments == ("(no name)", "\u00fc.png", "(no name)")


@pytest.mark.parametrize(
    "head",
    [
        "Content-Type: text/plain; charset*=x''y",
        'Content-Type: text/plain; charset="\x00"',
        "Content-Type: text/plain; charset=undefined",
        "Content-Type: text/plain; charset=rot13",
        "Content-Type: multipart/mixed",
        "Content-Type: multipart/mixed; boundary=",
        "",
    ],
)
def test_a_body_of_any_claim_is_shown(head: str) -> None:
    assert "hello" in read_body(f"{head}\r\n\r\nhello\r\n".encode()).text


def test_parts_nested_too_deep_are_shown_as_they_stand() -> None:
    heads = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(2_000))
    assert "boundary=b1999" in read_body(f"{heads}\r\nhello".encode()).text


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_that_is_sent_keeps_a_mail_from_being_shown(seed: int) -> None:
    chance = random.Random(seed)
    head = "".join(f"{name}: {''.join(chance.choices(_TOKENS, k=chance.randrange(10)))}\r\n" for name in chance.sample(_NAMES, 5))
    body = "".join(chance.choices([*_TOKENS, "--b\r\n", "--b--", "\r\n\r\n"], k=chance.randrange(10)))
    content = f"{head}\r\n{body}".encode("utf-8", "surrogatepass")
    json.dumps([read_headers(content), read_body(content)], ensure_ascii=False).encode()


@example(b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n\\ \xc3\xa9")
@example(b"Content-Disposition: attachment; filename*=unicode_escape''%5C%20a\r\n\r\nhello")
@example(b"Subject: =?unicode_escape?Q?=5C_a?=\r\n\r\nhello")
@given(st.binary(max_size=300))
def test_any_bytes_are_a_mail(content: bytes) -> None:
    json.dumps([read_headers(content), read_body(content)], ensure_ascii=False).encode()


def test_a_name_in_a_charset_of_its_own_is_read() -> None:
    content = b"Content-Disposition: attachment; filename*=iso-8859-1'de'Gr%FC%DFe.txt\r\n\r\nhello"
    assert read_body(content).attachments == ("Gr\u00fc\u00dfe.txt",)
