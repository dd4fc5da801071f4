"""Records: quoting, line numbers, nothing lost, memory bounded."""

from __future__ import annotations

import tracemalloc
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid, TooLarge
from postroom.recipients_file.records import MAX_RECORD, read_records, split_lines


def read(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    return list(read_records([text], delimiter))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_counts_once(end: str) -> None:
    text = end.join(["a,b", '"c', 'd",e', "", "f,g"])
    assert read(text) == [(1, ["a", "b"]), (2, [f"c{end}d", "e"]), (5, ["f", "g"])]


def test_line_ends_may_differ_within_a_file() -> None:
    assert read("a\rb\nc\r\nd\n\re") == [(1, ["a"]), (2, ["b"]), (3, ["c"]), (4, ["d"]), (6, ["e"])]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('a, "b, c" ,d', ["a", "b, c ", "d"]),
        ('"Bob" <b@x.example>,c', ["Bob <b@x.example>", "c"]),
        ('5" disk,b', ['5" disk', "b"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ("a\x0bb\x0c\x1c\x85\u2028c,d", ["a\x0bb\x0c\x1c\x85\u2028c", "d"]),
        ('"",b', ["", "b"]),
        ("a,b,", ["a", "b", ""]),
    ],
)
def test_reads_what_hands_and_spreadsheets_write(text: str, cells: list[str]) -> None:
    assert read(text + "\nnext,row\n") == [(1, cells), (2, ["next", "row"])]


def test_records_without_a_character_are_none() -> None:
    assert read("\n\n,,\na,b\n,,\n   \n\r\n") == [(4, ["a", "b"])]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n"c,d\ne,f\n', 2),
        ('a,b\nc,"d\ne,f', 2),
        ('a,"', 1),
        ('a,"b\nc",d\ne,"f\ng', 3),
        ('"Bob,b@x.example\nCarol,"c@x.example"\n', 1),
        ('a,"b ""\nc"" d\ne,"f" g\n', 1),
        ('"a\nb","c\nd,e\n', 2),
    ],
)
def test_a_quote_that_swallows_rows_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Invalid, match=rf"quote opened in line {line} "):
        read(text)


@pytest.mark.parametrize(
    ("head", "for_ever", "says"),
    [
        ("a,b\n", "x" * 100_000, r"The record in line 2 is longer than 1,000,000 characters\."),
        ("a,b\n\n", "x," * 50_000, r"The record in line 3 is longer"),
        (
            'a,b\n\nc,"d\ne",f\ng,"h',
            "y\n" * 50_000,
            r"The record in line 5 is longer .* A quote opened in line 5 may not be closed",
        ),
        ('a,"b\n', "z" * 100_000, r"The record in line 2 is longer"),
    ],
)
def test_a_record_without_end_is_refused_in_bounded_memory(head: str, for_ever: str, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=says):
            list(read_records(chain([head], repeat(for_ever)), ","))
        assert tracemalloc.get_traced_memory()[1] < 100 * MAX_RECORD
    finally:
        tracemalloc.stop()


def test_the_longest_allowed_record_is_read() -> None:
    cell = "x" * (MAX_RECORD - 2)
    assert read(cell + "\r\n" + "b\n") == [(1, [cell]), (2, ["b"])]
    with pytest.raises(TooLarge):
        read("xxx" + cell + "\n")


CELLS = st.text(st.sampled_from([*'ab ,;"\t|\r\n', "é", "\x0b", "\u2028", "@"]), max_size=6)


def written(cells: list[str], delimiter: str, end: str, *, everything: bool) -> str:
    """A record by RFC 4180; a quote stands also where a cell begins with a blank, which otherwise would be dropped."""

    def cell(text: str) -> str:
        if everything or not text or any(c in text for c in f'"\r\n{delimiter} '):
            return '"' + text.replace('"', '""') + '"'
        return text

    return delimiter.join(map(cell, cells)) + end


@given(
    st.lists(st.tuples(st.lists(CELLS, min_size=1, max_size=4), st.booleans()), max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 9),
    st.booleans(),
)
def test_what_was_written_is_read(rows: list[tuple[list[str], bool]], delimiter: str, end: str, size: int, ended: bool) -> None:
    """Any cells, any delimiter and line end, in parts cut anywhere: the same cells, each on the line it was written to."""
    text, expected = "", []
    for cells, everything in rows:
        line = 1 + sum(1 for _ in split_lines([text]))
        text += written(cells, delimiter, end, everything=everything)
        if any(cells):
            expected.append((line, cells))
    if not ended:
        text = text.removesuffix(end)
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(read_records(parts, delimiter)) == expected


@given(st.text(st.sampled_from('ab,"\r\n '), max_size=40), st.integers(1, 5), st.integers(2, 50))
def test_no_text_loses_a_row(text: str, size: int, first_line: int) -> None:
    """Whatever the text: refused, or every letter comes out in some cell; cut anywhere and begun anywhere, the same."""
    try:
        records = read(text)
    except Invalid:
        with pytest.raises(Invalid):
            list(read_records([text[at : at + size] for at in range(0, len(text), size)], ","))
        return
    letters = [c for c in text if c in "ab"]
    assert [c for _, cells in records for cell in cells for c in cell if c in "ab"] == letters
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(read_records(parts, ",", first_line=first_line)) == [(n + first_line - 1, cells) for n, cells in records]


@given(st.text(st.sampled_from("a\r\n"), max_size=30), st.integers(1, 4))
def test_lines_are_split_alike_however_cut(text: str, size: int) -> None:
    whole = list(split_lines([text]))
    assert "".join(whole) == text
    assert list(split_lines([text[at : at + size] for at in range(0, len(text), size)])) == whole
    assert len(whole) == text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1 - (not text or text[-1] in "\r\n")
