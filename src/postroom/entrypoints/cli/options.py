"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path | None, typer.Option(help="Data directory; POSTROOM_DATA.")]
OfTenant = Annotated[str, typer.Option("--tenant", help="Whose.")]
