"""`postroom doctor`: check the setup, and say what to do about each problem."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_findings
from postroom.entrypoints.cli.session import load_settings
from postroom.errors import Invalid
from postroom.model.finding import Finding, Level
from postroom.settings import FILE_NAME, Settings, without_password
from postroom.wiring.doctor import build_doctor


def doctor_command(
    domain: Annotated[str | None, typer.Option(help="Sending domain; its SPF, DKIM and DMARC records are looked up.")] = None,
    selector: Annotated[list[str] | None, typer.Option(help="DKIM selector that your relay signs with. Repeatable.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Check settings, data directory, mail server and sending domain. Exit code 1: a check failed."""
    try:
        settings = load_settings(data=data)
    except Invalid as error:
        findings = [Finding("settings", Level.FAIL, str(error), "docs/reference/settings.md lists all settings")]
    else:
        findings = [
            _settings(settings),
            *_settings_file(Path(FILE_NAME)),
            *build_doctor(settings, domain, tuple(selector or ())).examine(),
        ]
    print_findings(findings, as_json=as_json)


def _settings_file(path: Path) -> Iterator[Finding]:
    """Warn if other users can read a file that has a secret in it."""
    if not path.exists() or not path.stat().st_mode & 0o077:
        return
    text = path.read_text("utf-8", "replace")
    if without_password(text) != text or re.search(r"^\s*master_key\s*=", text, re.MULTILINE):
        yield Finding("settings", Level.WARN, f"other users of this machine may read the secrets in {path}", f"chmod 600 {path}")


def _settings(settings: Settings) -> Finding:
    changed = [f"{name}={value}" for name, value in settings.shown().items() if value != Settings().shown()[name]]
    return Finding("settings", Level.OK, ", ".join(changed) or "all at their defaults")
