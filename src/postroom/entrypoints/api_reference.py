"""Makes docs/reference/api.md from the door itself (`make docs`): an installation that nobody else sees is opened for it."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from postroom.entrypoints.application import application
from postroom.gateway.reference import page
from postroom.settings import Settings
from postroom.wiring import open_app


def reference() -> str:
    """The page."""
    with TemporaryDirectory() as directory, open_app(Settings(data=Path(directory))) as postroom:
        return page(application(postroom).openapi())


if __name__ == "__main__":
    sys.stdout.write(reference())
