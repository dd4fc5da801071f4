"""Content on its way into and out of the object store: read in chunks, hashed, checked.

The files of the object store: written aside, synced, then moved to their place in one step.

    staging/<writer>/owner      locked while its process lives
    staging/<writer>/<n>        a file being written
    files/<aa>/<name>           a complete file, of no meaning until the index names it

A file moves to `files` only under the index's write lock. So whoever holds that lock knows that a file which the index
does not name belongs to nobody, and that the staging of an owner whose lock is free does not either: `sweep` deletes both.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from postroom.errors import Corrupt, Unavailable
from postroom.platform.embedded._files import FileLock, disk_errors, sync_directory

CHUNK_BYTES = 1 << 20


class IncomingContent:
    """Content given as bytes, a stream or an iterator: its first chunks held back until it is known to be small or not."""

    def __init__(self, content: bytes | BinaryIO | Iterator[bytes], *, small: int) -> None:
        """Reads until the end or past `small` bytes. What the stream or iterator raises goes on to the caller."""
        self.size = 0
        self._hash = hashlib.sha256()
        self._rest = iter(_chunks(content))
        self._head: list[bytes] = []
        for chunk in self._rest:
            self._head.append(chunk)
            if sum(map(len, self._head)) > small:
                self.small: bytes | None = None
                return
        self.small = b"".join(self._head)
        self._account(self.small)

    @property
    def sha256(self) -> str:
        """Hex; of all chunks that were read."""
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """All of it, once, if it is not small."""
        while self._head:
            yield self._account(self._head.pop(0))
        for chunk in self._rest:
            yield self._account(chunk)

    def _account(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        self._hash.update(chunk)
        return chunk


def _chunks(content: bytes | BinaryIO | Iterator[bytes]) -> Iterable[bytes]:
    if isinstance(content, bytes | bytearray | memoryview):
        return (bytes(content),)
    if hasattr(content, "read"):
        stream: Any = content
        return iter(lambda: stream.read(CHUNK_BYTES), b"")
    return content


class _Checked(io.RawIOBase):
    """A file that is hashed as it is read; read to its end in order, it proves to be what was stored."""

    def __init__(self, file: BinaryIO, key: str, sha256: str) -> None:
        self._file = file
        self._key = key
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._in_order = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._in_order = False
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with disk_errors(self._key):
            count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        if count and self._in_order:
            self._hash.update(memoryview(buffer)[:count])
        elif self._in_order and len(buffer):
            check_digest(self._key, self._hash.hexdigest(), self._sha256)
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()


def checked_stream(file: BinaryIO, key: str, sha256: str) -> BinaryIO:
    """`file` to be read: at its end `Corrupt` is raised if it is not what was stored."""
    return io.BufferedReader(_Checked(file, key, sha256), CHUNK_BYTES)


def check_digest(key: str, found: str, stored: str) -> None:
    """Compare two digests of an object's content."""
    if found != stored:
        raise Corrupt(f"Object {key} is damaged: its content is not what was stored. Restore it from a backup.")


_OWNER = "owner"


class ObjectFiles:
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
