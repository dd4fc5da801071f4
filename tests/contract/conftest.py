"""Runs every conformance suite on every home that keeps its port.

A test that takes `home` runs once a home; `pytestmark = pytest.mark.homes("embedded")` keeps a suite to the homes named.
A home is a module with `open_home(request)`, a context manager that yields a `tests.contract.home.Home`; it skips, with
the reason, where this machine cannot have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.tables import Tables
from tests.contract.home import Home

HOMES = {"embedded": "tests.contract.embedded_home", "aws": "tests.contract.aws_home"}
VARIANTS = {
    "sealed": "tests.contract.sealed_home",
    "steps": "tests.contract.steps_home",
    "dynamodb": "tests.contract.dynamodb_home",
}
"""Homes for a suite that names them: the same as another, set up in another way."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "homes(*names): the homes that keep this suite's port yet")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "home" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("homes")
        metafunc.parametrize("home", marker.args if marker else list(HOMES), indirect=True)


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """Fresh storage in the home that is the test's parameter."""
    with import_module((HOMES | VARIANTS)[request.param]).open_home(request) as opened:
        yield opened


@pytest.fixture
def tables(home: Home) -> Tables:
    return home.tables()


@pytest.fixture
def queues(home: Home) -> Queues:
    return home.queues()


@pytest.fixture
def messages(home: Home) -> Messages:
    return home.messages()


@pytest.fixture
def objects(home: Home) -> Objects:
    return home.objects()
