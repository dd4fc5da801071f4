"""Layout: the delimiter, the header, and which column is which."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid, TooLarge
from postroom.recipients_file.columns import MAX_COLUMNS, find_column, header_names
from postroom.recipients_file.layout import HEAD_BYTES, Layout, detect_layout


def layout(text: str | bytes, *, asked_for: str | None = None, wanted: Sequence[str] = ()) -> Layout:
    raw = text.encode() if isinstance(text, str) else text
    return detect_layout(raw[:HEAD_BYTES], whole=len(raw) <= HEAD_BYTES, asked_for=asked_for, wanted=wanted)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_finds_the_delimiter(delimiter: str) -> None:
    text = f"name{delimiter}email\nDoe{delimiter}a@b.example\n"
    assert (layout(text).delimiter, layout(text).address, layout(text).skip) == (delimiter, 1, 1)


@pytest.mark.parametrize(
    ("text", "delimiter", "address"),
    [
        ("email\na@b.example\n", ",", 0),
        ("email\nDoe, John <a@b.example>\nRoe, Jane <c@d.example>\n", ";", 0),
        ("name;email;price\nDoe, J;a@b.example;1,50\nRoe, J;c@d.example;2,50\n", ";", 1),
        ("name,email,notes\nDoe,a@b.example,a;b|c\nRoe,c@d.example,d;e;f\n", ",", 1),
        ("a@b.example;Doe, John\nc@d.example;Roe, Jane\n", ";", 0),
        ('"full, name"|email\n"Doe, John"|a@b.example\n', "|", 1),
        ("sep=;\nname;email\nDoe;a@b.example\n", ";", 1),
        ('"sep=|"\r\nname, first|email\r\nDoe|a@b.example\r\n', "|", 1),
        ("\ufeffsep=\t\nname\temail\nDoe\ta@b.example\n", "\t", 1),
    ],
)
def test_tells_the_delimiter_from_other_signs(text: str, delimiter: str, address: int) -> None:
    found = layout(text)
    assert (found.delimiter, found.address) == (delimiter, address)


def test_excels_own_declaration_is_no_header() -> None:
    assert layout("sep=;\nemail;name\na@b.example;A\n").skip == 2


@pytest.mark.parametrize(
    "heading",
    ["email", "E-Mail", "E-mail Address", "EMAIL_ADDRESS", " e.mail ", "Courriel", "Adresse électronique", "ADRESSE ÉLECTRONIQUE",
     "correo", "Correo electrónico", "E-Mail-Adresse", "E‑Mail", "e-post", "Sähköposti", "почта", "Электронная почта", "メールアドレス",
     "ﾒｰﾙｱﾄﾞﾚｽ", "邮箱", "電子郵件", "이메일", "البريد الإلكتروني", "דוא״ל", "ईमेल", "Endereço de e-mail", "Email Address*",
     "E-mail\nAddress", "\u200bemail\u00a0", "Primary Email", "Contact Email", "E-mail 1 - Value"],
)  # fmt: skip
def test_knows_usual_headings_whatever_the_cells_hold(heading: str) -> None:
    """Even where the first rows are dirt and another column holds addresses: a heading that says so is believed."""
    assert layout(f'manager,"{heading}",x\nboss@b.example,n/a,1\n').address == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("email address,email\na@b.example,c@d.example\n", 0),
        ("contact email,email\na@b.example,c@d.example\n", 1),
        ("id,to\n1,a@b.example\n", 1),
        ("to,who\nParis,a@b.example\nRome,c@d.example\n", 1),
        ("to,cc\na@b.example,c@d.example\n", 0),
        ("id,xyz\n1,a@b.example\n2,\n3,nonsense\n4,c@d.example\n", 1),
        ("a@b.example,Ann\nc@d.example,Cay\n", 0),
        ("Ann,a@b.example\nCay,c@d.example\n", 1),
        ("Ann,A <a@b.example>\n", 1),
    ],
)
def test_chooses_the_column_of_addresses(text: str, address: int) -> None:
    assert layout(text).address == address


def test_a_first_row_that_holds_an_address_is_a_row() -> None:
    assert layout("a@b.example,Ann\n").skip == 0
    found = layout("Ann,a@b.example,x@y.example\nCay,c@d.example\n", asked_for="column2", wanted=("column1", "name"))
    assert (found.skip, found.address, found.columns) == (0, 1, (0, None))


@pytest.mark.parametrize(
    ("text", "asked_for", "says"),
    [
        ("name,town\nAnn,Rome\n", None, r"No column of addresses .*“name”, “town”.*--email-column"),
        ("a,b\nx@y.example,z@y.example\n", None, r"Several columns hold addresses: “a”, “b”.*--email-column"),
        ("name,email\nAnn,a@b.example\n", "mail2", r"no column 'mail2'.*“name”, “email”"),
        ("email,name\n", None, "no row after the header"),
        ("email", None, "no row after the header"),
        ("email\n\n,,\n", None, "no row after the header"),
        ("\n \r\n,,\n", None, "no recipients"),
        ("", None, "empty"),
        ('email,name\na@b.example,"Ann\n', None, "quote opened in line 2"),
    ],
)
def test_a_bad_file_is_refused_with_what_to_do(text: str, asked_for: str | None, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        layout(text, asked_for=asked_for)


def test_a_line_without_end_is_refused_from_its_beginning() -> None:
    with pytest.raises(TooLarge, match="line 1 "):
        layout(b"a," * HEAD_BYTES)
    with pytest.raises(TooLarge, match="line 2 "):
        layout(b"email,name\n" + b'x,"' + b"y\n" * HEAD_BYTES)


def test_a_head_that_ends_anywhere_is_no_error() -> None:
    """The beginning of a long file may end within a quote or a character: only whole records are looked at."""
    row = 'a@b.example,"é\né"\n'.encode()
    for cut in range(len(row) + 1):
        head = b"email,name\n" + row + row[:cut]
        found = detect_layout(head, whole=False, asked_for=None, wanted=("name",))
        assert (found.delimiter, found.address, found.columns) == (",", 0, (1,))


def test_the_templates_names_are_found_exactly_first_then_loosely() -> None:
    text = "email,First Name,first_name,Prénom,Name,name\na@b.example,1,2,3,4,5\n"
    found = layout(text, wanted=("first_name", "FirstName", "prenom", "name", "NAME", "town", ""))
    assert found.columns == (2, 1, 3, 5, 4, None, None)


def test_headings_get_names_of_their_own() -> None:
    assert header_names(["a", "", "a", "A", "  ", "a_2", "a"]) == ("a", "column2", "a_2", "A", "column5", "a_2_2", "a_3")


@given(st.lists(st.text(max_size=8), max_size=12))
def test_every_name_is_unique_and_finds_its_own_column(cells: list[str]) -> None:
    names = header_names(cells)
    assert len(set(names)) == len(names) == len(cells)
    assert [find_column(names, name) for name in names] == list(range(len(names)))


def test_many_equal_headings_take_no_longer_than_others() -> None:
    names = header_names(["x"] * MAX_COLUMNS)
    assert names[:3] == ("x", "x_2", "x_3")
    assert names[-1] == f"x_{MAX_COLUMNS}"
    started = time.process_time()
    header_names(["x", "x_2"] * (MAX_COLUMNS // 2))
    header_names(["x"] * MAX_COLUMNS)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("cell", ["x", "a@b.example"])
def test_a_file_of_too_many_columns_is_refused(cell: str) -> None:
    layout(",".join(["email"] + ["x"] * (MAX_COLUMNS - 1)) + "\na@b.example\n")
    with pytest.raises(Invalid, match=r"2,001 columns"):
        layout(",".join([cell] * (MAX_COLUMNS + 1)) + "\na@b.example\n")


@pytest.mark.parametrize("sign", ['"', " ", "e", "7", "'"])
def test_what_can_delimit_nothing_is_not_taken_for_a_declaration(sign: str) -> None:
    """Python 3.13 refuses some of these as a delimiter: the line is an ordinary one."""
    found = layout(f"sep={sign}\na@b.example\nc@d.example\n")
    assert (found.delimiter in ",;\t|", found.address, found.skip) == (True, 0, 1)
