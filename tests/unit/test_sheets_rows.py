"""Rows: a record becomes a message or a rejected row, and the report of those."""

from __future__ import annotations

import csv
import io
import json
from itertools import chain, islice

from hypothesis import given
from hypothesis import strategies as st

from postroom.model.batch import batch_of
from postroom.model.ids import Key, key_maker, recipient_key
from postroom.pipeline.splitter.store import HEADER, report_rows
from postroom.recipients_file.encoding import Encoding
from postroom.recipients_file.layout import Layout
from postroom.recipients_file.rows import MAX_VALUES_BYTES, SHOWN, Reject, Rows, read_rows

SECRET = bytes(range(32))


def rows(*records: tuple[int, list[str]], columns: tuple[int | None, ...] = (0, 2, None), address: int = 1) -> Rows:
    layout = Layout(Encoding("utf-8"), ",", 1, address, columns)
    return read_rows(records, layout, key_maker(SECRET), batches=7)


def test_a_row_becomes_a_message_with_its_values_in_the_templates_order() -> None:
    (message,), rejects = rows((12, [" Ann ", "Ann Lee <A@B.example>", "Rome\n", "unused"]))
    assert rejects == []
    key = recipient_key(SECRET, "a@b.example")
    assert message == (batch_of(key, 7), key, 12, "A@b.example", "Ann Lee", '["Ann","Rome",null]')


def test_a_short_row_has_nulls_an_empty_cell_is_empty_text() -> None:
    (short, empty, long), _ = rows(
        (2, ["Ann", "a@b.example"]), (3, ["", "c@d.example", ""]), (4, ["x", "e@f.example", "y", "z", "z"])
    )
    assert [json.loads(m.values) for m in (short, empty, long)] == [["Ann", None, None], ["", "", None], ["x", "y", None]]


def test_values_are_kept_as_they_are_within() -> None:
    value = 'two  spaces, "quotes",\r\nlines, \u200bzero width, 🙂, </script>'
    (message,), _ = rows((2, [value, "a@b.example", ""]))
    assert json.loads(message.values)[0] == value


def test_rejects_say_the_line_the_cell_and_why() -> None:
    _, rejects = rows(
        (2, ["Ann"]), (3, ["Ann", "nonsense"]), (4, ["", "a b@c.example"]), (5, ["x" * MAX_VALUES_BYTES, "a@b.example"])
    )
    assert [(r.line, r.address, r.reason) for r in rejects] == [
        (2, "", "empty"),
        (3, "nonsense", "no_at"),
        (4, "a b@c.example", "bad_local"),
        (5, "a@b.example", "values_too_long"),
    ]
    assert all(r.detail.endswith(".") for r in rejects)


@given(st.binary(min_size=1, max_size=100), st.text(st.characters(codec="utf-8")))
def test_a_key_made_for_many_is_the_key(secret: bytes, address: str) -> None:
    assert key_maker(secret)(address) == recipient_key(secret, address)


def test_equal_people_get_equal_keys() -> None:
    messages, _ = rows((2, ["", "Ann@B.example"]), (3, ["", "<ann@b.EXAMPLE>"]), (4, ["", "ann+x@b.example"]))
    keys: list[Key] = [message.key for message in messages]
    assert keys[0] == keys[1] != keys[2]


@given(st.lists(st.builds(Reject, st.integers(1, 99), st.text(), st.sampled_from(["empty", "duplicate"]), st.text()), max_size=5))
def test_the_report_is_a_csv_of_one_line_a_reject(rejects: list[Reject]) -> None:
    """Any cell: four columns, in the order of lines, and no cell that a spreadsheet would run as a formula."""
    rejects = [reject._replace(detail="A sentence, with a comma.") for reject in rejects]
    text = (HEADER + report_rows(rejects)).decode()
    assert text.count("\r\n") == text.count("\n") == len(rejects) + 1
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["line", "address", "reason", "detail"]
    assert [(int(line), reason, detail) for line, _, reason, detail in read[1:]] == [
        (r.line, r.reason, r.detail) for r in sorted(rejects)
    ]
    assert not any(row[1].startswith(("=", "+", "-", "@")) for row in read)


def test_of_a_rejected_cell_no_more_is_kept_than_is_shown() -> None:
    _, rejects = rows((2, ["", "x" * 900_000]), (3, ["", "<" + "y" * 5_000 + ">"]))
    assert all(len(reject.address) <= SHOWN and len(reject.detail) <= SHOWN for reject in rejects)
    assert len(rejects) == 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 120))
def test_rows_end_where_their_values_fill_the_room_and_the_next_go_on_from_there(sizes: list[int], room: int) -> None:
    """None is lost or read twice, and whoever begins at the same row ends at the same row."""
    layout = Layout(Encoding("utf-8"), ",", 0, 0, (1,))
    records = [(line, [f"a{line}@b.example" if size % 7 else "bad", "x" * size]) for line, size in enumerate(sizes)]
    reading = iter(records)
    parts: list[Rows] = []
    while sum(len(part.messages) + len(part.rejects) for part in parts) < len(records):
        parts.append(read_rows(islice(reading, 10), layout, key_maker(SECRET), batches=1, values_bytes=room))
        values = [len(message.values) for message in parts[-1].messages]
        assert sum(values[:-1]) < room
    lines = [sorted([m.line for m in part.messages] + [r.line for r in part.rejects]) for part in parts]
    assert list(chain.from_iterable(lines)) == list(range(len(records)))
    again = [
        read_rows(islice(records, part[0], part[0] + 10), layout, key_maker(SECRET), batches=1, values_bytes=room)
        for part in lines
    ]
    assert again == parts
