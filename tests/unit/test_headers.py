"""Header fields: any value comes back as one line of the same text, and none can end its field."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery import headers

anything = st.text(max_size=300)
HOSTILE = [
    "plain",
    "a\r\nBcc: everyone@example.com",
    "a\nb\rc\x00d\u2028e\x85f",
    "=?utf-8?q?look-alike?=",
    "two  spaces   three",
    "é" * 300,
    "😀" * 100,
    "x" * 500,
    "\u202eevil",
    'quotes " and \\ backslashes',
    "a@b <c>, d;",
    " leading and trailing ",
    "word " * 60,
    "a" + " " * 998 + "b",
    "a " * 40 + " " * 5_000 + "é",
    "a=?b",
    "Zoë (comment)",
    "[x] 100% _under_score?",
    "ä =?utf-8?q?x?= b",
]


def parsed(field: str) -> EmailMessage:
    """By Python's own parser, with nothing wrong found."""
    message = message_from_bytes(field.encode() + b"\r\nbody\r\n", policy=default)
    assert message.defects == []
    assert len(message.keys()) == 1
    return message


def check_lines(field: str) -> None:
    assert field.endswith("\r\n")
    lines = field[:-2].split("\r\n")
    assert not re.search(r"[\r\n\x00]", "".join(lines))
    assert all(line.strip() for line in lines)
    assert all(line.startswith(" ") for line in lines[1:])
    assert max(map(len, lines)) <= 998


def shown(text: str) -> str:
    return headers.cleaned(text)


@given(anything)
def test_a_subject_comes_back_as_the_same_line(text: str) -> None:
    field = headers.text_field("Subject", text)
    check_lines(field)
    assert all(len(line) <= 78 for line in field.split("\r\n"))
    assert str(parsed(field)["Subject"]) == shown(text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_subjects(text: str) -> None:
    test_a_subject_comes_back_as_the_same_line.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@given(anything)
def test_a_display_name_comes_back_and_adds_no_recipient(name: str) -> None:
    field = headers.address_field("To", name, "someone@example.com")
    check_lines(field)
    assert all(len(line) <= 78 for line in field.split("\r\n"))
    header = parsed(field)["To"]
    assert header.defects == ()
    assert [address.addr_spec for address in header.addresses] == ["someone@example.com"]
    # the modern parser keeps the space between two encoded words of a phrase, which RFC 2047 §6.2 drops: the older one does not
    raw = str(message_from_bytes(field.encode() + b"\r\n")["To"])
    if "=?" in raw:
        display = str(make_header(decode_header(raw))).removesuffix("<someone@example.com>").rstrip()
    else:
        display = parseaddr(raw)[0]
    assert display == shown(name)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_display_names(name: str) -> None:
    test_a_display_name_comes_back_and_adds_no_recipient.hypothesis.inner_test(name)  # type: ignore[attr-defined]


@given(anything.filter(lambda text: headers.cleaned(text) != ""))
def test_a_file_name_comes_back(name: str) -> None:
    field = headers.parameter_field("Content-Disposition", "attachment", headers.parameter("filename", name))
    check_lines(field)
    assert all(len(line) <= 78 for line in field.split("\r\n"))
    assert parsed(field).get_filename() == shown(name)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_file_names(name: str) -> None:
    test_a_file_name_comes_back.hypothesis.inner_test(name)  # type: ignore[attr-defined]


@given(st.text(alphabet="aé €😀=?_", min_size=1, max_size=200))
def test_encoded_words_keep_to_75_characters_and_split_between_characters(text: str) -> None:
    words = headers.encoded_words(text)
    assert all(len(word) <= 75 for word in words)
    parts = [raw.decode(str(charset)) for word in words for raw, charset in decode_header(word)]
    assert "".join(parts) == text


def test_an_address_outside_ascii_stays_as_it_is() -> None:
    """SMTPUTF8 (RFC 6532): the local part has no other spelling."""
    assert headers.address_field("To", None, "zoë@example.com") == "To: zoë@example.com\r\n"
