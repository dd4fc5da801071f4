"""Nothing ends a server but who asks for it: not a machine without a process to spare, nor a log that cannot be written."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from postroom.entrypoints.cli.session import say
from postroom.entrypoints.server import supervisor as supervisor_module
from postroom.entrypoints.server.supervisor import ProcessSpec, Supervisor
from tests.fakes.clock import ManualClock


class FakeProcess:
    """It runs until it is told otherwise."""

    def __init__(self) -> None:
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


class FakeChild:
    """As far as the supervisor looks."""

    trouble = last_words = ""

    def __init__(self, now: float) -> None:
        self.began = now
        self.process = FakeProcess()

    def listen(self, now: float) -> None:
        pass

    def kill_if_silent(self, now: float, patience_s: float) -> None:
        pass

    def bury(self) -> None:
        pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a child was started; the first three cannot be."""
    times: list[float] = []

    def child(*_words: object, now: float, **_options: Any) -> FakeChild:
        times.append(now)
        if len(times) <= 3:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return FakeChild(now)

    monkeypatch.setattr(supervisor_module, "Child", child)
    return times


def test_a_process_that_cannot_be_started_is_tried_again_ever_more_seldom(started: list[float]) -> None:
    clock, said = ManualClock(), list[str]()
    post = ProcessSpec("door", ["door"], {})
    supervisor = Supervisor([post], clock, patience_s=30, say=said.append)
    for _ in range(100):
        supervisor.tend()
        clock.advance(0.05)
    pauses = [after - before for before, after in pairwise(started)]
    assert pauses == pytest.approx([0.25, 0.5, 1.0], abs=0.06)
    assert post.child is not None
    assert said == ["door: cannot be started: Resource temporarily unavailable; it is tried again"]


def _closed() -> None:
    return None


def _full() -> object:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize("stream", [_closed, _full])
def test_what_cannot_be_said_ends_nothing(monkeypatch: pytest.MonkeyPatch, stream: Callable[[], Any]) -> None:
    made = stream()
    monkeypatch.setattr(sys, "stderr", made)
    say("the door is started again")
    monkeypatch.undo()
    if made is not None:
        with pytest.raises(OSError, match="No space"):
            made.close()
