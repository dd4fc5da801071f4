"""The real templates, as the emulator gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.emulator import PROGRAM
from tests.aws_e2e.deploying import Assembly
from tests.infra.synthesis import synthesised

STAGE = "test"


def assembly(factory: pytest.TempPathFactory, stub: Path) -> Assembly:
    """Skips the test where it cannot be had. `stub` is what stands for the functions' code: the emulator brings the real one."""
    if not PROGRAM.exists():
        pytest.skip("no AWS emulator here: `make test` installs it")
    return Assembly(synthesised(factory, "assembly", {"stage": STAGE, "bundle": str(stub)}))
