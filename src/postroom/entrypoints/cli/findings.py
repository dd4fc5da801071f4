"""Findings on standard output: what `doctor` and `provider test` saw."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from postroom.entrypoints.cli.output import print_json, print_rows
from postroom.entrypoints.cli.session import FAILED
from postroom.model.finding import Finding, Level
from postroom.services.doctor import healthy

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
