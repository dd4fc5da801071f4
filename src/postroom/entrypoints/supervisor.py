"""Keeps the processes of a server running: one that ends, or goes silent, is started again after a moment.

The moment doubles with each quick end, up to half a minute, and is short again once a process has held for a minute. Nothing is
given up: a full disk is emptied, a mail server comes back. What is told to the person is each change once, not each try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from postroom.clock import Clock
from postroom.entrypoints.children import Child

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 30.0
_HEALTHY_S = 60.0


@dataclass(slots=True)
class Post:
    """A place to be held by one process at a time."""

    name: str
    words: Sequence[str]
    environ: dict[str, str]
    handles: Sequence[int] = ()
    last: bool = False
    """Stopped after the others, which need it to drain."""
    child: Child | None = None
    failures: int = 0
    next_start: float = 0.0
    said: str = field(default="", repr=False)


class Supervisor:
    """Call `tend` several times a second."""

    def __init__(self, posts: Sequence[Post], clock: Clock, *, patience_s: float, say: Callable[[str], None]) -> None:
        """`patience_s`: how long a process may be silent."""
        self._posts = posts
        self._clock = clock
        self._patience_s = patience_s
        self._say = say

    def tend(self) -> None:
        """Start what is not running, end what is silent, say what changed."""
        now = self._clock.monotonic()
        for post in self._posts:
            if post.child is None:
                if now >= post.next_start:
                    self._start(post, now)
                continue
            child = post.child
            child.listen(now)
            self._tell(post, child.trouble)
            if child.process.poll() is None:
                child.kill_if_silent(now, self._patience_s)
                if post.failures and now - child.began > _HEALTHY_S:
                    post.failures = 0
                    self._say(f"{post.name}: running again")
            else:
                self._replace(post, child, now)

    def stop(self, grace_s: float) -> None:
        """Ask all to stop, and wait so long at most; who has not ended then is killed. Those that others need go last."""
        deadline = self._clock.monotonic() + grace_s
        for last in (False, True):
            children = [post.child for post in self._posts if post.last is last and post.child is not None]
            for child in children:
                child.ask_to_stop()
            for child in children:
                child.wait(max(deadline - self._clock.monotonic(), 0.1))
        self.kill()

    def kill(self) -> None:
        """End all now."""
        for post in self._posts:
            if post.child is not None:
                post.child.bury()
                post.child = None

    def _start(self, post: Post, now: float) -> None:
        try:
            post.child = Child(post.words, environ=post.environ, log=None, now=now, handles=post.handles)
        except OSError as error:  # the machine has no process, memory or open file to spare: a moment later it may
            self._wait(post, post.failures + 1, now)
            self._tell(post, f"cannot be started: {error.strerror or error}; it is tried again")

    def _wait(self, post: Post, failures: int, now: float) -> None:
        """Before the next start."""
        post.failures = failures
        post.next_start = now + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << min(failures - 1, 10)))

    def _replace(self, post: Post, child: Child, now: float) -> None:
        child.listen(now)
        child.bury()
        post.child = None
        self._wait(post, 1 if now - child.began > _HEALTHY_S else post.failures + 1, now)
        code = child.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._tell(post, f"{how}{': ' if child.last_words else ''}{child.last_words}; it is started again")

    def _tell(self, post: Post, text: str) -> None:
        if text and text != post.said:
            self._say(f"{post.name}: {text}")
        if text or post.child is not None:
            post.said = text
