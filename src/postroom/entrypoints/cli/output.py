"""Options that many commands have.

Data on standard output: a table on a terminal, tab-separated lines elsewhere, JSON for machines.

Findings on standard output: what `doctor` and `provider test` saw.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from postroom.clock import Instant
from postroom.entrypoints.cli.session import FAILED, say
from postroom.model.finding import Finding, Level
from postroom.services.doctor import healthy

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path | None, typer.Option(help="Data directory; POSTROOM_DATA.")]
OfTenant = Annotated[str, typer.Option("--tenant", help="Whose.")]


def take_any_text() -> None:
    """Let standard output take every character: what was done is reported, wherever it goes. Data that goes to a file or
    another program is UTF-8 (RFC 8259 §8.1); a terminal of another encoding shows what it lacks as `\\u…`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", encoding=None if sys.stdout.isatty() else "utf-8")


def print_json(value: object) -> None:
    """One line; in ASCII where standard output is not UTF-8, since what it lacks could not be escaped later."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("_", "-") in {"utf-8", "utf8"}
    sys.stdout.write(json.dumps(value, ensure_ascii=not utf8) + "\n")


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = (), *, none: str = "") -> None:
    """A table with a heading; `styles` aligned with `rows`. Elsewhere than on a terminal: no heading, a tab between cells. Of no
    rows at all: `none`, on standard error."""
    if none and not rows:
        say(none)
        return
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


_STYLES = {Level.OK: "green", Level.SKIPPED: "dim", Level.WARN: "yellow", Level.FAIL: "bold red"}


def report(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print them; the command ends with exit code 1 where one failed."""
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.level.value, finding.subject, finding.text, finding.todo) for finding in findings]
        print_rows(("", "what", "found", "to do"), rows, [_STYLES[finding.level] for finding in findings])
    sys.stdout.flush()
    if not healthy(findings):
        raise typer.Exit(FAILED)
