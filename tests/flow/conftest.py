"""Fixtures of the flow tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.flow.campaign_kit import MakeOffice, Office


@pytest.fixture
def make_office(tmp_path: Path) -> Iterator[MakeOffice]:
    """See campaign_kit.MakeOffice."""
    with ExitStack() as ending:

        def make(port: int, **options: Any) -> Office:
            return ending.enter_context(closing(Office(tmp_path, port, **options)))

        yield make
