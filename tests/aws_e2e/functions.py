"""The functions' processes: the emulator runs each in a folder of its own, named after it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import boto3

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


def credentials(world: World, function: str) -> boto3.Session:
    """Those of its own role, as one of its processes has them."""
    pid = processes(world, function)[0]
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    given = dict(word.split("=", 1) for word in words if "=" in word)
    return boto3.Session(
        given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], given["AWS_SESSION_TOKEN"], region_name=given["AWS_REGION"]
    )
