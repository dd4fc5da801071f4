"""The files of the object store: written aside, synced, then moved to their place in one step.

    staging/<writer>/owner      locked while its process lives
    staging/<writer>/<n>        a file being written
    files/<aa>/<name>           a complete file, of no meaning until the index names it

A file moves to `files` only under the index's write lock. So whoever holds that lock knows that a file which the index
does not name belongs to nobody, and that the staging of an owner whose lock is free does not either: `sweep` deletes both.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from postroom.errors import Unavailable
from postroom.platform.embedded._files import FileLock, disk_errors, sync_directory

_OWNER = "owner"


class Spool:
    """One process's way to the files under `root`."""

    def __init__(self, root: Path, name: str) -> None:
        """`name`: never used before. The caller holds the index's write lock, so that no sweep meets a staging without owner."""
        self._files = root / "files"
        self._staging = root / "staging" / name
        self._numbers = itertools.count()
        with disk_errors(self._staging):
            self._files.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(parents=True)
            self._owner = FileLock(self._staging / _OWNER)
            self._owner.acquire()

    def close(self) -> None:
        """Remove what was staged."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._owner.close()

    @contextmanager
    def staged(self, chunks: Iterable[bytes]) -> Iterator[Path]:
        """A complete and synced file of `chunks`; gone after the block, unless it was moved."""
        path = self._staging / str(next(self._numbers))
        try:
            with path.open("xb", buffering=0) as file:
                for chunk in chunks:
                    with disk_errors(path):
                        _write(file, chunk)
                with disk_errors(path):
                    os.fsync(file.fileno())
            yield path
        finally:
            with suppress(OSError):  # what cannot be removed now is swept later
                path.unlink(missing_ok=True)

    def place(self, staged: Path, name: str) -> None:
        """Move a staged file to its place, durably. Under the index's write lock."""
        target = self.path(name)
        with disk_errors(target):
            if not target.parent.exists():
                target.parent.mkdir()
                sync_directory(self._files)
            staged.rename(target)
            sync_directory(target.parent)

    def path(self, name: str) -> Path:
        """Where a file of this name is."""
        return self._files / name[-2:] / name

    def remove(self, names: Iterable[str]) -> None:
        """Delete files the index no longer names; what cannot be deleted is swept later."""
        for name in names:
            with suppress(OSError):
                self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Every file there is."""
        with disk_errors(self._files):
            for directory in self._files.iterdir():
                for file in directory.iterdir():
                    yield file.name

    def sweep_staging(self) -> None:
        """Delete the staging of dead owners. Under the index's write lock."""
        with disk_errors(self._staging):
            for staging in self._staging.parent.iterdir():
                if staging == self._staging:
                    continue
                if staging.is_dir():
                    _sweep(staging)


def _sweep(staging: Path) -> None:
    """Unless its owner lives. Owners remove their own as they end, under no lock: it may be gone at any step."""
    try:
        lock = FileLock(staging / _OWNER)
    except Unavailable:
        if staging.is_dir():
            raise
        return
    try:
        if lock.try_acquire():
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        lock.close()


def _write(file: BinaryIO, chunk: bytes) -> None:
    """All of it: a raw file may take less."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
