"""Cells of the CSV files that we write: none is a formula where a spreadsheet opens it (OWASP's "CSV injection").

A cell that begins with what a spreadsheet may take for a formula gets an apostrophe in front: it then is text. A
cell that already looks so guarded gets one more, so that taking one off again always gives the cell as it was.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def guarded(cell: str) -> str:
    """The cell as it may stand in a file."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell that `guarded` guarded."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_line(cells: Iterable[object]) -> str:
    """One record (RFC 4180), its texts guarded; None is empty."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()
