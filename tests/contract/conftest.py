"""Runs every conformance suite on each backend.

A test that takes the fixture `backend` runs once for each backend. `pytestmark = pytest.mark.backends("embedded")` limits a suite to
the backends named. Each entry below names a context manager that yields a `tests.contract.backend.Backend`. It skips the test,
and says why, if this machine cannot run that backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.tables import Tables
from tests.contract.backend import Backend

BACKENDS = {
    "embedded": ("tests.contract.embedded_backend", "open_backend"),
    "aws": ("tests.contract.aws_backend", "open_backend"),
}
VARIANTS = {
    "sealed": ("tests.contract.embedded_backend", "open_sealed_backend"),
    "steps": ("tests.contract.steps_backend", "open_backend"),
    "dynamodb": ("tests.contract.aws_backend", "open_dynamodb_backend"),
}
"""Other set-ups of the same adapters, for suites that name them in their marker."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "backends(*names): the backends this suite runs on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("backends")
        metafunc.parametrize("backend", marker.args if marker else list(BACKENDS), indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Fresh storage in the backend that is the test's parameter."""
    module, function = (BACKENDS | VARIANTS)[request.param]
    with getattr(import_module(module), function)(request) as opened:
        yield opened


@pytest.fixture
def tables(backend: Backend) -> Tables:
    return backend.tables()


@pytest.fixture
def queues(backend: Backend) -> Queues:
    return backend.queues()


@pytest.fixture
def messages(backend: Backend) -> Messages:
    return backend.messages()


@pytest.fixture
def objects(backend: Backend) -> Objects:
    return backend.objects()
