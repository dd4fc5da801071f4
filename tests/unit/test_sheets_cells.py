"""Cells of CSV files: never a formula, and nothing is lost by the guard."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.recipients_file.cells import csv_line, guarded, unguarded


@given(st.text())
def test_a_guarded_cell_comes_back_as_it_was(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell


@pytest.mark.parametrize("cell", ["=1+1", "+49 30 1", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x"])
def test_what_a_spreadsheet_may_take_for_a_formula_becomes_text(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "a=b", "'s-Hertogenbosch", "O'Neill", "1"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert guarded(cell) == unguarded(cell) == cell


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_a_line_is_one_record(cells: list[str]) -> None:
    (record,) = csv.reader([csv_line(cells)])
    assert [unguarded(cell) for cell in record] == cells
