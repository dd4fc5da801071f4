"""The inspection of a recipients file: told from its beginning, as the import will read it, with nothing taken from a row."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.model.upload import Inspection
from postroom.recipients_file.layout import HEAD_BYTES, detect_layout, inspect_file, named_rows, read_header

EXAMPLE = Path(__file__).parents[2] / "examples" / "recipients.csv"


def of(text: str | bytes, size: int | None = None) -> Inspection:
    raw = text.encode() if isinstance(text, str) else text
    return inspect_file(raw[:HEAD_BYTES], len(raw) if size is None else size)


def test_the_example() -> None:
    raw = EXAMPLE.read_bytes()
    assert of(raw) == Inspection(
        encoding="utf-8",
        delimiter=";",
        header=True,
        columns=(
            "E-Mail", "First Name", "Company", "City", "Plan", "Points", "Invoice No", "Amount", "Due Date", "Notes",
        ),
        column_count=10,
        address_column="E-Mail",
        rows=1_306,
        rows_exact=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "encoding", "delimiter", "columns", "rows"),
    [
        ("name\temail\nÄnn\ta@b.example\n".encode("utf-16"), "utf-16-le", "\t", ("name", "email"), 1),
        ("näme;email\nÄnn;a@b.example\n".encode("cp1252"), "cp1252", ";", ("näme", "email"), 1),
        (b"\xef\xbb\xbfsep=|\r\nname|email\r\nAnn|a@b.example\r\n\r\nBob|\r\n", "utf-8", "|", ("name", "email"), 2),
        (b'email,note\r\na@b.example,"two\nlines"\r\n', "utf-8", ",", ("email", "note"), 1),
    ],
)
def test_encodings_delimiters_and_records(raw: bytes, encoding: str, delimiter: str, columns: tuple[str, ...], rows: int) -> None:
    found = of(raw)
    assert (found.encoding, found.delimiter, found.columns, found.rows) == (encoding, delimiter, columns, rows)
    assert (found.address_column, found.rows_exact, found.problems) == ("email", True, ())


def test_a_file_without_a_header_has_numbered_columns_and_shows_no_row() -> None:
    found = of("Ann,a@b.example\nBob,c@d.example\n")
    assert (found.header, found.columns, found.address_column, found.rows) == (False, ("column1", "column2"), "column2", 2)
    assert "Ann" not in repr(found)
    assert "b.example" not in repr(found)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"PK\x03\x04" + b"\x00" * 40 + b"xl/workbook.xml", "Excel workbook: open it there and save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 100, "old Excel workbook"),
        (b"PK\x03\x04" + b"\x00" * 40 + b"people.csv", "zip archive: unpack it"),
        (b"%PDF-1.7\n", "PDF document"),
        (b"\x1f\x8b\x08\x00", "gzip: unpack it"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'[{"email": "a@b.example"}]', "JSON"),
        (bytes(range(256)) * 20, "not text"),
        (b"\r\n\r\n", "there is nothing in it"),
    ],
)
def test_what_is_no_list_is_told_what_it_is(raw: bytes, says: str) -> None:
    found = of(raw)
    assert says in found.problems[0]
    assert (found.encoding, found.columns, found.rows, found.rows_exact) == (None, (), None, False)


@pytest.mark.parametrize(
    ("text", "says", "columns"),
    [
        ("name,town\nAnn,Rome\n", "No column of addresses was found", ("name", "town")),
        ("a,b\nx@y.example,z@y.example\n", "Several columns hold addresses", ("a", "b")),
        ("email,name\n", "no row after the header", ("email", "name")),
        ("email,name\n" + "a@b.example,Ann\n" * 300 + '"Bob\nb@b.example\n', "line 302 is not closed", ("email", "name")),
    ],
)
def test_what_cannot_be_imported_as_it_is_shows_its_columns_all_the_same(text: str, says: str, columns: tuple[str, ...]) -> None:
    found = of(text)
    assert says in " ".join(found.problems)
    assert found.columns == columns


def test_rows_of_a_large_file_are_estimated_within_a_hundredth_and_at_once() -> None:
    line = "person%07d@mail.example,Ann,%s\n"
    head = "email,name,note\n" + "".join(line % (number, "x" * (number % 50)) for number in range(100_000))
    size = 1_000_000_000
    begun = time.perf_counter()
    found = of(head, size)
    assert time.perf_counter() - begun < 1
    assert not found.rows_exact
    assert found.problems == ()
    assert found.rows is not None
    assert abs(found.rows / (size / (len(head) / 100_000)) - 1) < 0.01


def test_a_record_that_the_beginning_cuts_off_is_no_fault() -> None:
    raw = b"email,note\n" + b'a@b.example,"' + b"x" * 900_000 + b'"\n'
    raw += b'b@b.example,"' + b"x\n" * 400_000 + b'"\n'
    raw = raw * 5
    assert of(raw).problems == ()


def test_many_and_long_names_fit_a_record() -> None:
    found = of(",".join(f"é{number}" + "x" * 300 for number in range(1_900)) + "\n" + "a@b.example," * 1_899 + "\n")
    assert found.column_count == 1_900
    assert 0 < len(found.columns) < 1_900
    assert sum(len(name.encode()) for name in found.columns) < 45_000
    assert max(map(len, found.columns)) == 200


def test_rows_come_by_name_trimmed_and_without_cells_they_do_not_have() -> None:
    raw = b"email;name;city\r\na@b.example; Ann ;Rome;more\r\n\r\nb@b.example\r\n"
    rows = list(named_rows([raw[:30], raw[30:]], read_header(raw, whole=True)))
    assert rows == [{"email": "a@b.example", "name": "Ann", "city": "Rome"}, {"email": "b@b.example"}]


@given(st.text(st.sampled_from('ab@.,;"\n\r\t|é '), max_size=60), st.integers(0, 60))
def test_whatever_stands_in_a_file_its_inspection_agrees_with_the_import(text: str, cut: int) -> None:
    """Where the import would recognise it, the inspection has no problem with its beginning; and it never fails."""
    raw = text.encode()
    found = inspect_file(raw, len(raw))
    inspect_file(raw[:cut], len(raw) + 1)
    try:
        layout = detect_layout(raw, whole=True, asked_for=None, wanted=())
    except Invalid as error:
        refusal: str | None = str(error)
    else:
        refusal = None
        assert found.address_column == found.columns[layout.address]
        assert (found.encoding, found.delimiter) == (layout.encoding.codec, layout.delimiter)
    assert refusal is None or refusal in found.problems
