"""Imports of real spreadsheets on the real stores: every row is accounted for, as a naive import would have it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.ledger.suppression import SuppressionReason
from postroom.model.campaign import CampaignStatus
from tests.flow.import_home import Installation, Row, expected

PEOPLE = b"email,name\nann@x.example,Ann\nbob@x.example,Bob\nANN@x.example,Other\n\nnonsense,\ncy@x.example,Cy\n"
PEOPLE_ROWS = [
    Row(2, "ann@x.example", ("Ann",)),
    Row(3, "bob@x.example", ("Bob",)),
    Row(4, "ANN@x.example", ("Other",)),
    Row(6, "nonsense", ("",)),
    Row(7, "cy@x.example", ("Cy",)),
]


def test_every_row_is_a_message_or_a_line_of_the_report(tmp_path: Path) -> None:
    with Installation(tmp_path, PEOPLE, columns=["name"]) as installation:
        installation.suppress("Bob@X.example")
        installation.run()
        assert installation.outcome() == expected(PEOPLE_ROWS, ["bob@x.example"])
        assert [(row["line"], row["address"], row["reason"], row["detail"]) for row in installation.report()] == [
            ("3", "bob@x.example", "suppressed", "The address is on the suppression list."),
            ("4", "ANN@x.example", "duplicate", "The same recipient as in line 2."),
            ("6", "nonsense", "no_at", "“nonsense” has no @."),
        ]


def test_who_left_the_campaigns_topic_is_suppressed_and_who_left_another_is_not(tmp_path: Path) -> None:
    with Installation(tmp_path, b"email\nann@x.example\nbob@x.example\n", topic="offers") as installation:
        for address, topic in (("ann@x.example", "offers"), ("bob@x.example", "news")):
            key = installation.key(address)
            installation.suppression.add("default", key, address=address, reason=SuppressionReason.UNSUBSCRIBE, topic=topic)
        installation.run()
        assert [row["address"] for row in installation.report()] == ["ann@x.example"]
        assert installation.campaign.source.suppressed == 1


def test_where_no_row_is_rejected_there_is_no_report(tmp_path: Path) -> None:
    with Installation(tmp_path, b"email\na@x.example\n") as installation:
        installation.run()
        assert installation.outcome() == expected([Row(2, "a@x.example")])
        assert installation.campaign.source.rejected_key is None


def test_where_every_row_is_rejected_the_campaign_is_ready_and_empty(tmp_path: Path) -> None:
    with Installation(tmp_path, b"email\nnobody\n") as installation:
        installation.run()
        assert installation.outcome() == expected([Row(2, "nobody")])


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (b"", "empty"),
        (b"name,town\nAnn,Rome\n", "No column of addresses"),
        (b"email,name\n", "no row after the header"),
        (b"PK\x03\x04" + b"xl/workbook.xml" + bytes(100), "Excel workbook"),
        (b'email,name\na@x.example,A\nb@x.example,"B\n', "quote opened in line 3"),
        (b"email\n" + b"a@x.example\n" * 3_000 + b'"' + b"b@x.example\n" * 200_000, "line 3002 is longer"),
    ],
)
def test_a_bad_upload_fails_the_campaign_with_the_reason_and_stores_nothing(tmp_path: Path, upload: bytes, says: str) -> None:
    with Installation(tmp_path, upload) as installation:
        installation.run()
        campaign = installation.campaign
        assert campaign.status is CampaignStatus.FAILED
        assert says in (campaign.reason or "")
        assert installation.objects.list("default/campaigns/").objects == []
        installation.run()
        assert installation.campaign == campaign


def test_the_column_that_was_named_is_used(tmp_path: Path) -> None:
    with Installation(tmp_path, b"email,second\na@x.example,b@x.example\n", email_column="Second") as installation:
        installation.run()
        assert installation.outcome().messages == {2: ("b@x.example", None, "[]")}


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    encode: Callable[[str], bytes]
    delimiter: str
    end: str
    quote_all: bool
    letters: str


UNICODE = "éßŻ中🙂\u200b\u2028"
ENCODINGS: list[tuple[Callable[[str], bytes], str]] = [
    (lambda text: text.encode(), UNICODE),
    (lambda text: text.encode("utf-8-sig"), UNICODE),
    (lambda text: text.encode("utf-16"), UNICODE),
    (lambda text: text.encode("utf-16-le"), UNICODE),
    (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), UNICODE),
    (lambda text: text.encode("cp1252"), "éßü"),
]
DIALECTS = st.builds(
    lambda encoding, delimiter, end, quote_all: Dialect(encoding[0], delimiter, end, quote_all, encoding[1]),
    st.sampled_from(ENCODINGS),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
ADDRESSES = st.sampled_from(
    ["ann@x.example", "ANN@X.example", "Ann Lee <ann@x.example>", "\u00a0ann@x.example ", "bob@x.example", '"Bob, Jr" <bob@x.example>',
     "<cy@x.example>;", "dé@x.example", "listed@x.example", "Listed@x.example", "e@é.example", "", "nobody", "a b@x.example",
     "a@x.example, b@x.example", "f@x"]
)  # fmt: skip
SOME = st.one_of(ADDRESSES, st.integers(0, 30).map(lambda n: f"user{n}@x.example"))


@st.composite
def uploads(draw: st.DrawFn) -> tuple[bytes, list[Row]]:
    """A dirty file and the rows it means."""
    dialect = draw(DIALECTS)
    cells = st.text(st.sampled_from(list(',;"|\t\r\n ab') + list(dialect.letters)), max_size=6)

    def cell(text: str) -> str:
        if dialect.quote_all or any(sign in text for sign in (dialect.delimiter, '"', "\r", "\n")):
            return '"' + text.replace('"', '""') + '"'
        return text

    text = "".join(
        f"{name}{sep}"
        for name, sep in zip(("Nr", "E-Mail", "first name"), (dialect.delimiter,) * 2 + (dialect.end,), strict=True)
    )
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 12))):
        text += draw(st.sampled_from(["", "", "", dialect.end, dialect.delimiter * 2 + dialect.end]))
        address = "ann@x.example" if number == 0 else draw(SOME)
        if not all(character in dialect.letters or character.isascii() for character in address):
            address = "ann@x.example"
        name = draw(st.one_of(st.none(), cells))
        extra = draw(st.lists(cells, max_size=2)) if name is not None else []
        written = [str(number), address, *([] if name is None else [name]), *extra]
        line = 1 + text.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        rows.append(Row(line, address, (name, None, str(number))))
        text += dialect.delimiter.join(map(cell, written)) + dialect.end
    if draw(st.booleans()):
        text = text.removesuffix(dialect.end)
    return dialect.encode(text), rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(uploads(), st.integers(1, 15))
def test_any_dirty_file_comes_to_what_a_naive_import_makes_of_it(upload: tuple[bytes, list[Row]], chunk: int) -> None:
    """Any encoding, delimiter, line end, quoting, raggedness; duplicates, suppressed and bad rows; any size of chunk."""
    raw, rows = upload
    with (
        tempfile.TemporaryDirectory() as root,
        Installation(Path(root), raw, columns=["First_Name", "missing", "nr"]) as installation,
    ):
        installation.suppress("listed@x.example")
        installation.run(chunk=chunk)
        assert installation.outcome() == expected(rows, ["listed@x.example"])
