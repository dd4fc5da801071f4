"""A backend on AWS for the tests of this directory, and no waiting for botocore's retries."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.contract.aws_backend import AwsBackend, open_backend


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[AwsBackend]:
    with open_backend(request) as opened:
        yield opened


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore repeats at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
