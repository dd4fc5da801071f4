"""Running a campaign's workers as child processes, for a command that waits: starts them, replaces those that die, stops them.

A worker that was killed is replaced after a moment; one that is silent for two leases is killed, since it may hold a lock that
the others need, and a group that they wait to hear about. A worker that ends by itself with an error met something it could
not go on with (a full disk, say): after a few such ends in a row the run fails with what it said. What is recorded stays
recorded: `--resume` goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from postroom.clock import Clock
from postroom.entrypoints.children import Child
from postroom.entrypoints.process import STOPPED
from postroom.errors import PostroomError
from postroom.model.campaign import CampaignRef
from postroom.settings import Settings

_FAILURES = 4
_FIRST_WAIT_S = 0.25
_HEALTHY_S = 60.0
_STOP_MARGIN_S = 5.0
_LOG_BYTES = 10_000_000


class RunFailed(PostroomError):
    """The workers cannot go on; the text is the last one's."""


class Runner:
    """A campaign's workers. Call `tend` several times a second."""

    def __init__(self, settings: Settings, clock: Clock, ref: CampaignRef, *, mail: str) -> None:
        """`mail`: where the workers deliver to, the built-in inbox resolved."""
        self._clock = clock
        self._lease_s = settings.lease
        self._drain_s = settings.drain
        self._count = settings.workers
        self._environ = settings.environ(mail=mail)
        self._words = ["worker", "--campaign", ref.campaign, "--tenant", ref.tenant]
        self._log_path = settings.data / "logs" / "workers.log"
        self._log = _open_log(self._log_path)
        self._children: list[Child] = []
        self._failures = 0
        self._next_start = 0.0

    def start(self) -> None:
        """Start all workers; those that ended before are forgotten."""
        self.kill()
        for _ in range(self._count):
            self._start_one()

    def tend(self) -> bool:
        """Look after them; False once all have ended well, the campaign's work being over. `RunFailed`."""
        now = self._clock.monotonic()
        ended_well = 0
        for child in list(self._children):
            child.listen(now)
            code = child.process.poll()
            if code is None:
                child.kill_if_silent(now, 2 * self._lease_s)
            elif code == 0:
                ended_well += 1
            else:
                child.listen(now)
                self._bury(child, code, now)
        if len(self._children) < self._count and now >= self._next_start:
            self._start_one()
        return ended_well < self._count

    @property
    def trouble(self) -> str:
        """What keeps the workers from sending, in words; empty when nothing does."""
        return next((child.trouble for child in self._children if child.trouble), "")

    def stop(self) -> None:
        """Stop new sends, wait for what is in flight, end the processes; those that do not are killed."""
        for child in self._children:
            child.ask_to_stop()
        deadline = self._clock.monotonic() + self._drain_s + _STOP_MARGIN_S
        for child in self._children:
            child.wait(max(deadline - self._clock.monotonic(), 0.1))
        self.kill()

    def kill(self) -> None:
        """End the processes now; whatever they had in flight is in doubt."""
        for child in self._children:
            child.bury()
        self._children.clear()

    def close(self) -> None:
        """Nothing of it stays. Workers that still run are let finish what is in flight."""
        self.stop()
        self._log.close()

    def _start_one(self) -> None:
        self._children.append(Child(self._words, environ=self._environ, log=self._log, now=self._clock.monotonic()))

    def _bury(self, child: Child, code: int, now: float) -> None:
        self._children.remove(child)
        child.bury()
        if now - child.began > _HEALTHY_S:
            self._failures = 0
        if code > 0 and code != STOPPED:  # below zero: killed by a signal, which says nothing of what it met
            self._failures += 1
        if self._failures >= _FAILURES:
            raise RunFailed(child.last_words or f"the workers end with code {code}: {self._log_path} says why")
        self._next_start = now + _FIRST_WAIT_S * (1 << self._failures)


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
