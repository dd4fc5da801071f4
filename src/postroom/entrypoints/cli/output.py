"""Data on standard output: a table on a terminal, tab-separated lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from postroom.clock import Instant


def print_json(value: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """A table with a heading; `styles` aligned with `rows`. Elsewhere than on a terminal: no heading, a tab between cells."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(" ".join(cell.split()) for cell in row) + "\n")
        return
    table = Table(*columns, title_justify="left")
    for at, row in enumerate(rows):
        table.add_row(*(Text(printable(cell)) for cell in row), style=styles[at] if styles else None)
    Console(highlight=False).print(table)


def printable(text: str) -> str:
    """`text` without what would steer the terminal: it may come from anybody's mail."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def shown_time(at: Instant) -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
