"""The AWS home as far as it is DynamoDB's: tables, messages and their feed on Amazon's own emulator of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.aws.dynamodb_local import dynamodb_local
from tests.contract.aws_home import AwsHome


@contextmanager
def open_home(request: pytest.FixtureRequest) -> Iterator[AwsHome]:
    """A home with tables of its own, and no other service."""
    account = dynamodb_local(request.config).account()
    with ExitStack() as closers:
        yield AwsHome(account, closers)
