"""Set up every test: what child processes inherit, the profile of Hypothesis, the order, and the option `--embedded`."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from itertools import islice
from typing import TypeVar

import pytest
from hypothesis import settings

_SLOWEST = (
    "tests/aws_e2e/",
    "tests/flow/test_pause_resume.py::test_a_hundred_thousand",
    "tests/aws/test_send_machine.py",
    "tests/aws/test_import_machine.py",
    "tests/infra/",
    "tests/flow/test_guard_serve.py",
    "tests/flow/test_mail_comes_back.py",
    "tests/flow/test_crash_",
)
"""Node ids that begin with one of these take longest, in this order. They begin first: a long test that begins last keeps one worker
busy while the others are done."""
_EMULATED = {"aws", "dynamodb"}
Item = TypeVar("Item")

settings.register_profile("postroom", deadline=None)  # a busy machine is no failure
settings.load_profile("postroom")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--embedded", action="store_true", help="leave out the tests that need an emulator of AWS")


def pytest_configure() -> None:
    """Mend what child processes inherit.

    In a background job of a shell (`make test &`) SIGINT is ignored, and so it would be in the children that tests interrupt; a handler
    is not inherited. Where Python may write no bytecode, each of some hundred children compiles all modules: half of its start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slowest tests first, in each worker's share of pytest-xdist's `--dist worksteal` (equal runs of the list)."""
    if config.getoption("--embedded"):
        left_out = [item for item in items if _needs_emulator(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _needs_emulator(item)]
    slow = sorted((item for item in items if _rank(item) < len(_SLOWEST)), key=_rank)
    others = [item for item in items if _rank(item) == len(_SLOWEST)]
    items[:] = deal(slow, others, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _needs_emulator(item: pytest.Item) -> bool:
    """Whether it runs on the backend `aws` or `dynamodb` of `tests/contract`."""
    return isinstance(item, pytest.Function) and hasattr(item, "callspec") and item.callspec.params.get("backend") in _EMULATED


def _rank(item: pytest.Item) -> int:
    return next((number for number, start in enumerate(_SLOWEST) if item.nodeid.startswith(start)), len(_SLOWEST))


def deal(first: Sequence[Item], others: Sequence[Item], shares: int) -> list[Item]:
    """All of both, such that each of `shares` equal runs of the result begins with its part of `first`, dealt in turn."""
    dealt: list[Item] = []
    left = iter(others)
    total = len(first) + len(others)
    for share in range(shares):
        begins = first[share::shares]
        size = (total - len(dealt)) // (shares - share)
        dealt += [*begins, *islice(left, max(0, size - len(begins)))]
    return dealt
