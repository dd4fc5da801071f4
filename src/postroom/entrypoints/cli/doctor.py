"""`postroom doctor`: whether everything is set up right, and what to do where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, report
from postroom.entrypoints.cli.session import load_settings
from postroom.errors import Invalid
from postroom.model.finding import Finding, Level
from postroom.settings import FILE_NAME, Settings, without_password
from postroom.wiring.doctor import build_doctor


def doctor_command(
    domain: Annotated[str | None, typer.Option(help="The domain you send from: its SPF, DKIM and DMARC are looked up.")] = None,
    selector: Annotated[list[str] | None, typer.Option(help="DKIM selector your relay signs with; again for more.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Check settings, data directory, mail server and the sending domain. Exit code 1: something does not work."""
    try:
        settings = load_settings(data=data)
    except Invalid as error:
        findings = [Finding("settings", Level.FAIL, str(error), "docs/reference/settings.md lists them all")]
    else:
        findings = [
            _settings(settings),
            *_settings_file(Path(FILE_NAME)),
            *build_doctor(settings, domain, tuple(selector or ())).examine(),
        ]
    report(findings, as_json=as_json)


def _settings_file(path: Path) -> Iterator[Finding]:
    """Whether a password in it can be read by others."""
    if not path.exists() or not path.stat().st_mode & 0o077:
        return
    text = path.read_text("utf-8", "replace")
    if without_password(text) != text or re.search(r"^\s*master_key\s*=", text, re.MULTILINE):
        yield Finding("settings", Level.WARN, f"others on this machine may read the secrets in {path}", f"chmod 600 {path}")


def _settings(settings: Settings) -> Finding:
    changed = [f"{name}={value}" for name, value in settings.shown().items() if value != Settings().shown()[name]]
    return Finding("settings", Level.OK, ", ".join(changed) or "all as they come")
