"""The functions' processes: the emulator runs each in a folder of its own, named after it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.aws_e2e.world import PREFIX, World


def processes(world: World, function: str) -> list[int]:
    """Those of one function that run now."""
    mark = f"{world.emulator.home}/ministack-lambda-{PREFIX}-{function}-".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and any(word.startswith(mark) for word in (folder / "cmdline").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return found


def kill(world: World, function: str) -> int:
    """All of them, at once and without a word: how many there were."""
    found = processes(world, function)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)
