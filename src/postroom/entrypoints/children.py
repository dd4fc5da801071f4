"""A child process and what it says: entrypoints.process is the other end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from postroom.entrypoints.process import FATAL, TROUBLE

SILENCE_S = 5.0
"""A child is never taken for hung before."""


class Child:
    """One process of this program."""

    def __init__(
        self, words: Sequence[str], *, environ: dict[str, str], log: IO[bytes] | None, now: float, handles: Sequence[int] = ()
    ) -> None:
        """`words`: the command and its options. `log`: where its log goes, None for where ours goes. `handles`: open files
        that it inherits."""
        # A group of its own, so that Ctrl-C is ours alone; not a session: should we be killed while it stands still (SIGSTOP),
        # the system ends the stopped members of a group left behind, and no orphan keeps a lock for which all others wait.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "postroom", *words],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,
            pass_fds=handles,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.began = self.heard = now
        self.last_words = ""
        self.trouble = ""
        self._unread = b""

    def listen(self, now: float) -> None:
        """Read what it said."""
        assert self.process.stdout is not None
        while data := self.process.stdout.read(4096):
            self.heard = now
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                if line.startswith(FATAL.encode()):
                    self.last_words = line[1:].decode("utf-8", "replace")
                elif line.startswith(TROUBLE.encode()):
                    self.trouble = line[1:].decode("utf-8", "replace")

    def kill_if_silent(self, now: float, patience_s: float) -> None:
        """It may hold a lock that others need, and a group that they wait to hear about."""
        if now - self.heard > max(patience_s, SILENCE_S):
            self.process.kill()

    def ask_to_stop(self) -> None:
        """It ends by itself, soon."""
        with suppress(ProcessLookupError):
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        """For its end, so long at most."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def bury(self) -> None:
        """End it now, if it has not ended; nothing of it stays."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
