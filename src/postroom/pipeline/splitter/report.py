"""The report of rejected rows: CSV in UTF-8 with the columns line, address, reason, detail."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from postroom.recipients_file.cells import guarded
from postroom.recipients_file.rows import SHOWN, Reject

HEADER = b"line,address,reason,detail\r\n"


def report_rows(rejects: Iterable[Reject]) -> bytes:
    """The rejects as rows of the report, in the order of their lines; without the header."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        (reject.line, _harmless(reject.address), reject.reason, reject.detail) for reject in sorted(rejects)
    )
    return text.getvalue().encode("utf-8", "replace")


def _harmless(cell: str) -> str:
    """The cell on one line, and no formula where a spreadsheet opens the report."""
    return guarded("".join(character if character.isprintable() else " " for character in cell[:SHOWN]))
