"""One issuer a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.identity.provider import OpenIdProvider
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import Browser, open_tables, provider_on


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tables(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteTables]:
    with open_tables(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def provider(tables: SqliteTables, clock: ManualClock) -> OpenIdProvider:
    return provider_on(tables, clock)


@pytest.fixture
def browser(provider: OpenIdProvider) -> Browser:
    return Browser(provider)
