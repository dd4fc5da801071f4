"""The part of every child process besides its work: it reports that it is alive, follows its parent, and stops when asked.

SIGTERM, or the end of the parent (standard input closes), asks it to stop. On standard output it reports every second that its
event loop runs (a dot), what keeps it from working (`~` and a sentence, or nothing once that is over), and the error that ended
it (`!` and a sentence). The parent kills a child that goes silent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from postroom.errors import PostroomError
from postroom.telemetry.logs import event_logger

STOPPED = 75
"""Exit code of a child that was asked to stop before its work was over (EX_TEMPFAIL of sysexits.h)."""
ALIVE = "."
FATAL = "!"
TROUBLE = "~"
_ALIVE_EVERY_S = 1.0
_log = event_logger(__name__)
T = TypeVar("T")


class Stop:
    """The request to stop, for the event loop (`event`) and for threads (`flag`)."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.flag = threading.Event()

    def set(self) -> None:
        """Call it on the event loop."""
        self.event.set()
        self.flag.set()

    def __bool__(self) -> bool:
        return self.flag.is_set()


async def supervised(work: Callable[[Stop], Awaitable[T]]) -> T:
    """Run `work` as the child of a supervising parent."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_follow_parent, args=(loop, stop), daemon=True).start()
    alive = asyncio.create_task(_say_alive())
    try:
        return await work(stop)
    finally:
        alive.cancel()


def report_fatal(error: PostroomError) -> None:
    """Report to the parent the error that ends this process."""
    _log.error("process.failed", reason=str(error))
    _say(FATAL + str(error).replace("\n", " "))


def report_trouble(reason: str) -> None:
    """Report to the parent what keeps this process from working; an empty text when that is over."""
    _say(TROUBLE + reason.replace("\n", " "))


def _follow_parent(loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    with suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(stop.set)


async def _say_alive() -> None:
    while True:
        _say(ALIVE)
        await asyncio.sleep(_ALIVE_EVERY_S)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # the parent is gone: `_follow_parent` sees it too
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
