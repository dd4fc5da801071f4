"""Child processes: `Supervisor` keeps those of a server running, `CampaignWorkers` those of one campaign.

A server's process that ends or goes silent is started again after a delay, which doubles with each quick end, up to 30 s, and
is short again once the process has run for a minute. It never gives up: a full disk is emptied, a mail server comes back. Each
change is reported once, not each try.

A campaign's worker that was killed is replaced after a moment. One that is silent for two leases is killed, since it may hold a
lock or a group that the others wait for. A worker that ends with an error met a permanent problem (a full disk, for example):
after four such ends in a row the run fails with its text. Everything recorded stays: `--resume` continues.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from postroom.clock import Clock
from postroom.entrypoints.server.process import FATAL, STOPPED, TROUBLE
from postroom.errors import PostroomError
from postroom.model.campaign import CampaignRef
from postroom.settings import Settings

SILENCE_S = 5.0
"""A child is never taken for hung before."""


class Child:
    """One process of this program."""

    def __init__(
        self, arguments: Sequence[str], *, environ: dict[str, str], log: IO[bytes] | None, now: float, handles: Sequence[int] = ()
    ) -> None:
        """`arguments`: the command and its options. `log`: where its log goes, None for where ours goes. `handles`: open files
        that it inherits."""
        # A group of its own, so that Ctrl-C is ours alone; not a session: should we be killed while it stands still (SIGSTOP),
        # the system ends the stopped members of a group left behind, and no orphan keeps a lock for which all others wait.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "postroom", *arguments],
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
        self.exit_reason = ""
        self.trouble = ""
        self._unread = b""

    def listen(self, now: float) -> None:
        """Read its status lines (server.process)."""
        assert self.process.stdout is not None
        while data := self.process.stdout.read(4096):
            self.heard = now
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                if line.startswith(FATAL.encode()):
                    self.exit_reason = line[1:].decode("utf-8", "replace")
                elif line.startswith(TROUBLE.encode()):
                    self.trouble = line[1:].decode("utf-8", "replace")

    def kill_if_silent(self, now: float, patience_s: float) -> None:
        """Kill it if it has reported nothing for `patience_s`: it may hold a lock or a lease that others wait for."""
        if now - self.heard > max(patience_s, SILENCE_S):
            self.process.kill()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        with suppress(ProcessLookupError):
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for its end, `seconds` at most."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def reap(self) -> None:
        """Kill it if it still runs, wait for its end, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 30.0
_HEALTHY_S = 60.0


@dataclass(slots=True)
class ProcessSpec:
    """A process to keep running."""

    name: str
    arguments: Sequence[str]
    environ: dict[str, str]
    handles: Sequence[int] = ()
    last: bool = False
    """True if it is stopped after the others, which need it to drain."""
    child: Child | None = None
    failures: int = 0
    next_start: float = 0.0
    said: str = field(default="", repr=False)


class Supervisor:
    """Call `tend` several times a second."""

    def __init__(self, specs: Sequence[ProcessSpec], clock: Clock, *, patience_s: float, say: Callable[[str], None]) -> None:
        """`patience_s`: how long a process may be silent."""
        self._specs = specs
        self._clock = clock
        self._patience_s = patience_s
        self._say = say

    def tend(self) -> None:
        """Start what is not running, end what is silent, say what changed."""
        now = self._clock.monotonic()
        for spec in self._specs:
            if spec.child is None:
                if now >= spec.next_start:
                    self._start(spec, now)
                continue
            child = spec.child
            child.listen(now)
            self._tell(spec, child.trouble)
            if child.process.poll() is None:
                child.kill_if_silent(now, self._patience_s)
                if spec.failures and now - child.began > _HEALTHY_S:
                    spec.failures = 0
                    self._say(f"{spec.name}: running again")
            else:
                self._replace(spec, child, now)

    def stop(self, grace_s: float) -> None:
        """Ask all processes to stop, wait `grace_s` at most, then kill the rest. Processes with `last` go last."""
        deadline = self._clock.monotonic() + grace_s
        for last in (False, True):
            children = [spec.child for spec in self._specs if spec.last is last and spec.child is not None]
            for child in children:
                child.ask_to_stop()
            for child in children:
                child.wait(max(deadline - self._clock.monotonic(), 0.1))
        self.kill()

    def kill(self) -> None:
        """End all now."""
        for spec in self._specs:
            if spec.child is not None:
                spec.child.reap()
                spec.child = None

    def _start(self, spec: ProcessSpec, now: float) -> None:
        try:
            spec.child = Child(spec.arguments, environ=spec.environ, log=None, now=now, handles=spec.handles)
        except OSError as error:  # the machine has no process, memory or open file to spare: a moment later it may
            self._wait(spec, spec.failures + 1, now)
            self._tell(spec, f"cannot be started: {error.strerror or error}; it is tried again")

    def _wait(self, spec: ProcessSpec, failures: int, now: float) -> None:
        """Before the next start."""
        spec.failures = failures
        spec.next_start = now + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << min(failures - 1, 10)))

    def _replace(self, spec: ProcessSpec, child: Child, now: float) -> None:
        child.listen(now)
        child.reap()
        spec.child = None
        self._wait(spec, 1 if now - child.began > _HEALTHY_S else spec.failures + 1, now)
        code = child.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._tell(spec, f"{how}{': ' if child.exit_reason else ''}{child.exit_reason}; it is started again")

    def _tell(self, spec: ProcessSpec, text: str) -> None:
        if text and text != spec.said:
            self._say(f"{spec.name}: {text}")
        if text or spec.child is not None:
            spec.said = text


_FAILURES = 4
_STOP_MARGIN_S = 5.0
_LOG_BYTES = 10_000_000


class RunFailed(PostroomError):
    """The workers cannot go on; the text is the last one's."""


class CampaignWorkers:
    """A campaign's workers. Call `tend` several times a second."""

    def __init__(self, settings: Settings, clock: Clock, ref: CampaignRef, *, mail: str) -> None:
        """`mail`: where the workers deliver to, the built-in inbox resolved."""
        self._clock = clock
        self._lease_s = settings.lease
        self._drain_s = settings.drain
        self._count = settings.workers
        self._environ = settings.environ(mail=mail)
        self._arguments = ["worker", "--campaign", ref.campaign, "--tenant", ref.tenant]
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
                self._reap(child, code, now)
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
            child.reap()
        self._children.clear()

    def close(self) -> None:
        """Nothing of it stays. Workers that still run are let finish what is in flight."""
        self.stop()
        self._log.close()

    def _start_one(self) -> None:
        self._children.append(Child(self._arguments, environ=self._environ, log=self._log, now=self._clock.monotonic()))

    def _reap(self, child: Child, code: int, now: float) -> None:
        self._children.remove(child)
        child.reap()
        if now - child.began > _HEALTHY_S:
            self._failures = 0
        if code > 0 and code != STOPPED:  # below zero: killed by a signal, which says nothing of what it met
            self._failures += 1
        if self._failures >= _FAILURES:
            raise RunFailed(child.exit_reason or f"the workers end with code {code}: {self._log_path} says why")
        self._next_start = now + _FIRST_WAIT_S * (1 << self._failures)


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
