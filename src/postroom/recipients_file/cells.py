"""Cells of the CSV files that Postroom writes, safe from formula injection (OWASP "CSV injection").

A cell that a spreadsheet could take for a formula gets an apostrophe in front, which makes it text. A cell that already begins
this way gets another one, so that removing one always restores the cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def guarded(cell: str) -> str:
    """The cell as written to a file."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell before `guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_line(cells: Iterable[object]) -> str:
    """One record (RFC 4180) of guarded cells; None is empty."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()
