"""Data on standard output: a table on a terminal, tab-separated lines elsewhere, JSON with `--json`; and options that many
commands have."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from postroom.clock import Instant
from postroom.entrypoints.cli.session import FAILED, say
from postroom.model.finding import Finding, Level
from postroom.services.doctor import healthy

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path | None, typer.Option(help="Data directory. Default: POSTROOM_DATA.")]
OfTenant = Annotated[str, typer.Option("--tenant", help="Tenant that owns the data.")]

_Item = TypeVar("_Item", covariant=True)
_PAGE_SIZE = 1_000
_STYLES = {Level.OK: "green", Level.SKIPPED: "dim", Level.WARN: "yellow", Level.FAIL: "bold red"}


class _Page(Protocol[_Item]):
    @property
    def items(self) -> Sequence[_Item]: ...

    @property
    def cursor(self) -> str | None: ...


def every_item(list_page: Callable[[str | None, int], _Page[_Item]]) -> Iterator[_Item]:
    """Iterate over all pages of a list. `list_page` takes a cursor (None for the first page) and a page size."""
    cursor: str | None = None
    while True:
        page = list_page(cursor, _PAGE_SIZE)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def take_any_text() -> None:
    """Let standard output take every character, so that a result is always reported.

    A file or pipe gets UTF-8 (RFC 8259 section 8.1). A terminal with another encoding shows characters it lacks as `\\u…`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", encoding=None if sys.stdout.isatty() else "utf-8")


def print_json(value: object) -> None:
    """Print one line of JSON: in ASCII if standard output is not UTF-8, because missing characters cannot be escaped later."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("_", "-") in {"utf-8", "utf8"}
    sys.stdout.write(json.dumps(value, ensure_ascii=not utf8) + "\n")


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = (), *, none: str = "") -> None:
    """Print a table with a heading on a terminal, and lines with tabs between cells and no heading elsewhere.

    `styles` has one rich style a row. If there are no rows, `none` is written to standard error instead.
    """
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


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print the findings of `doctor` or `provider test`. Exits with code 1 if one failed."""
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.level.value, finding.subject, finding.text, finding.todo) for finding in findings]
        print_rows(("status", "subject", "found", "to do"), rows, [_STYLES[finding.level] for finding in findings])
    sys.stdout.flush()
    if not healthy(findings):
        raise typer.Exit(FAILED)


def printable(text: str) -> str:
    """Return `text` without terminal control characters: it may come from mail that anyone sent."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def shown_time(at: Instant) -> str:
    """Format a time as RFC 3339, in UTC, to the second."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
