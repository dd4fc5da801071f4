"""File helpers of the embedded backend: locks that die with their process, durable renames, disk errors as `postroom.errors`.

A lock is `flock` on a side file, so a killed process leaves nothing to clean up. A lock is held for one transaction or one
rename, mostly a millisecond: a waiting process tries again soon, and then less and less often. Only a stopped (not a dead)
process can block others for long. After 30 s the wait ends with an error that names its process id.
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
    """The error for an `OSError` at `path`: `StorageFull` if a person must free space or give permission, else `Unavailable`."""
    number = error.errno or 0
    if number in _NO_ROOM:
        return StorageFull(f"Cannot write {path}: {_NO_ROOM[number]}. Make room and go on; nothing was changed.")
    if number in _NO_WRITING:
        return StorageFull(f"Cannot write {path}: {_NO_WRITING[number]}. Nothing was changed.")
    return Unavailable(f"Cannot use {path}: {error.strerror or error}.")


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Raise `OSError`s of the block as `storage_error` translates them."""
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
    """A lock between processes, not between threads of one process: the caller needs another lock for those."""

    def __init__(self, path: Path) -> None:
        """Create the side file. Raises `StorageFull` or `Unavailable`."""
        with disk_errors(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._path = path

    def acquire(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Wait for the lock. Raises `Unavailable` after `patience_s` seconds, or if the file system has no locks."""
        if not self.try_acquire_for(patience_s):
            raise Unavailable(f"{self._path} is locked by {self._holder()}: end that process or let it continue, then try again.")

    def try_acquire_for(self, patience_s: float) -> bool:
        """Wait up to `patience_s` seconds. Returns whether the lock was taken. Raises `Unavailable` if the file system has no
        locks."""
        wait, deadline = _SHORTEST_WAIT_S, time.monotonic() + patience_s
        while not self.try_acquire():
            if time.monotonic() > deadline:
                return False
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        return True

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises `Unavailable` if the file system has no locks."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise storage_error(error, self._path) from error
        with suppress(OSError):  # only for the error message: a full disk must not prevent locking
            os.pwrite(self._handle, b"%-20d" % os.getpid(), 0)
        return True

    def _holder(self) -> str:
        pid = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip()
        return f"process {pid}" if pid else "another process"

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock and close the file. The file stays: removing it would split the lock in two."""
        os.close(self._handle)
