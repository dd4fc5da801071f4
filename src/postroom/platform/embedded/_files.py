"""What every file of the embedded home needs: locks that die with their holder, renames that last, errors in our words.

A lock is `flock` on a side file: a killed process leaves nothing to clean up. Its holders keep it for one transaction or
one rename, mostly a millisecond, so who waits looks again soon, and ever more seldom. Only a stopped (not a dead) process
can make others wait for long: after half a minute they say whom they wait for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postroom.errors import PostroomError, StorageFull, Unavailable

_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "the file may grow no more"}
_NO_WRITING = {errno.EROFS: "the disk is read-only", errno.EACCES: "permission is missing", errno.EPERM: "permission is missing"}
LOCK_PATIENCE_S = 30.0
_SHORTEST_WAIT_S = 0.000_05
_LONGEST_WAIT_S = 0.005


def storage_error(error: OSError, path: Path | str) -> PostroomError:
    """What an `OSError` at `path` means: `StorageFull` where a person must make room or give permission, else `Unavailable`."""
    number = error.errno or 0
    if number in _NO_ROOM:
        return StorageFull(f"Cannot write {path}: {_NO_ROOM[number]}. Make room and go on; nothing was changed.")
    if number in _NO_WRITING:
        return StorageFull(f"Cannot write {path}: {_NO_WRITING[number]}. Nothing was changed.")
    return Unavailable(f"Cannot use {path}: {error.strerror or error}.")


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Raise an `OSError` of the body as `storage_error` names it."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FileLock:
    """A lock between processes. Not between threads of one: the caller holds a lock of its own around it."""

    def __init__(self, path: Path) -> None:
        """`StorageFull`, `Unavailable`: the side file cannot be made."""
        with disk_errors(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._path = path

    def acquire(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Wait for the lock. `Unavailable`: somebody kept it for `patience_s`, or the file system keeps no locks."""
        if not self.try_acquire_for(patience_s):
            raise Unavailable(f"{self._path} is kept locked by {self._holder()}: end it, or let it continue, and go on.")

    def try_acquire_for(self, patience_s: float) -> bool:
        """Wait for the lock so long at most; whether it was had. `Unavailable`: the file system keeps no locks."""
        wait, deadline = _SHORTEST_WAIT_S, time.monotonic() + patience_s
        while not self.try_acquire():
            if time.monotonic() > deadline:
                return False
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        return True

    def try_acquire(self) -> bool:
        """Take the lock if it is free. `Unavailable`: the file system keeps no locks."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise storage_error(error, self._path) from error
        with suppress(OSError):  # only for whoever waits too long: a full disk keeps nobody from locking
            os.pwrite(self._handle, b"%-20d" % os.getpid(), 0)
        return True

    def _holder(self) -> str:
        pid = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip()
        return f"process {pid}" if pid else "another process"

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it and forget it; the side file stays: removing it would split the lock in two."""
        os.close(self._handle)
