"""Makes docs/reference/api.md from the application (`make docs`), opened in a temporary directory."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from postroom.entrypoints.application import application
from postroom.gateway.reference import page
from postroom.settings import Settings
from postroom.wiring import open_app


def reference() -> str:
    """Return the page."""
    with TemporaryDirectory() as directory, open_app(Settings(data=Path(directory))) as container:
        return page(application(container).openapi())


if __name__ == "__main__":
    sys.stdout.write(reference())
