"""Quoted-printable fragments: whatever is joined decodes to what was put in, in short and harmless lines."""

from __future__ import annotations

import quopri
import re

from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.mime import encode_fragment, encode_value

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\x01")) | st.text(
    alphabet=" .=\tF\nromé€x", max_size=200
)
HOSTILE = ["", ".", "..", "." * 200, "From me", "x\nFrom you", "a \n", " ", "\t\n", "=", "=?utf-8?q?x?=", "é" * 100, "😀" * 50,
           "\u202eabc", "x" * 75, "x" * 76, "x" * 1000, "a\x00b", "\n", "\n\n.\n", "x" * 74 + " \n", "x" * 75 + ".", "x" * 75 + "From a", "\x1c\x85\u2028"]  # fmt: skip


def decoded(coded: str) -> str:
    return quopri.decodestring(coded.encode("ascii")).decode().replace("\r\n", "\n")


def check_lines(coded: str) -> None:
    assert not re.search(r"(?<!\r)\n|\r(?!\n)", coded)
    assert coded == "" or coded.endswith("\r\n")
    for line in coded.split("\r\n"):
        assert len(line) <= 76
        assert not line.startswith((".", "From "))
        assert line == line.rstrip(" \t")


@given(st.lists(st.tuples(st.booleans(), texts), max_size=8))
def test_joined_fragments_and_values_decode_to_the_joined_text(pieces: list[tuple[bool, str]]) -> None:
    coded = "".join(encode_value(text) if is_value else encode_fragment(text, {}) for is_value, text in pieces)
    assert decoded(coded) == "".join(text for _, text in pieces)
    check_lines(coded)


def test_hostile_texts_survive_both_ways() -> None:
    for text in HOSTILE:
        for coded in (encode_value(text), encode_fragment(text, {})):
            assert decoded(coded) == text
            check_lines(coded)


def test_line_ends_of_values_become_crlf() -> None:
    assert decoded(encode_value("a\rb\r\nc\nd")) == "a\nb\nc\nd"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert decoded(encode_value("a\ud800b")) == "a?b"


@given(texts, texts, st.integers(1, 60))
def test_a_stand_in_is_never_split_and_leaves_room_for_what_it_stands_for(before: str, after: str, width: int) -> None:
    coded = encode_fragment(f"{before}\x01{after}", {"\x01": width})
    assert coded.count("\x01") == 1
    filled = coded.replace("\x01", "T" * width)
    assert decoded(filled) == before + "T" * width + after
    check_lines(filled)


def test_ten_megabytes_are_encoded_in_no_time() -> None:
    text = "é x.\n" * 2_000_000
    assert len(encode_value(text)) > 2 * len(text)
