"""A home on AWS for the tests of this directory, and no waiting for botocore's retries."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.contract.aws_home import AwsHome, open_home


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[AwsHome]:
    with open_home(request) as opened:
        yield opened


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore repeats at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
