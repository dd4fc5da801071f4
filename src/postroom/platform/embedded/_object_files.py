"""The files of the object store, and the streams of content in and out of them.

    staging/<writer>/owner      locked while its process lives
    staging/<writer>/<n>        a file being written
    files/<aa>/<name>           a complete file, without meaning until the index names it

A file is written in `staging`, synced, and moved to `files` in one step, under the index's write lock. So under that
lock, a file that the index does not name belongs to no writer, and neither does the staging directory of an owner whose lock is
free: `sweep_staging` and the store delete both.
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
    """Content given as bytes, a stream or an iterator, buffered until it is known whether it is small."""

    def __init__(self, content: bytes | BinaryIO | Iterator[bytes], *, small: int) -> None:
        """Read to the end, or past `small` bytes. Errors of the stream or iterator reach the caller."""
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
        """Hex, of all chunks read so far."""
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """All content, once, if it is not small."""
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
    """A file that is hashed while it is read in order, and checked at its end."""

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
    """A stream of `file`. Raises `Corrupt` at its end if the content is not what was stored."""
    return io.BufferedReader(_Checked(file, key, sha256), CHUNK_BYTES)


def check_digest(key: str, found: str, stored: str) -> None:
    """Raises `Corrupt` if the digests of an object's content differ."""
    if found != stored:
        raise Corrupt(f"Object {key} is damaged: its content is not what was stored. Restore it from a backup.")


_OWNER = "owner"


class ObjectFiles:
    """One process's access to the files under `root`."""

    def __init__(self, root: Path, name: str) -> None:
        """`name`: unique for ever. The caller holds the index's write lock, so that no sweep finds a staging directory without
        owner."""
        self._files = root / "files"
        self._staging = root / "staging" / name
        self._numbers = itertools.count()
        with disk_errors(self._staging):
            self._files.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(parents=True)
            self._owner = FileLock(self._staging / _OWNER)
            self._owner.acquire()

    def close(self) -> None:
        """Remove this process's staging directory."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._owner.close()

    @contextmanager
    def staged(self, chunks: Iterable[bytes]) -> Iterator[Path]:
        """Write `chunks` to a synced file. It is deleted after the block unless it was moved."""
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
            with suppress(OSError):  # a file that cannot be removed now is swept later
                path.unlink(missing_ok=True)

    def place(self, staged: Path, name: str) -> None:
        """Move a staged file to `files`, durably. The caller holds the index's write lock."""
        target = self.path(name)
        with disk_errors(target):
            if not target.parent.exists():
                target.parent.mkdir()
                sync_directory(self._files)
            staged.rename(target)
            sync_directory(target.parent)

    def path(self, name: str) -> Path:
        """The path of the file of this name."""
        return self._files / name[-2:] / name

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that the index no longer names. Those that cannot be deleted are swept later."""
        for name in names:
            with suppress(OSError):
                self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """The names of all files."""
        with disk_errors(self._files):
            for directory in self._files.iterdir():
                for file in directory.iterdir():
                    yield file.name

    def sweep_staging(self) -> None:
        """Delete staging directories of dead owners. The caller holds the index's write lock."""
        with disk_errors(self._staging):
            for staging in self._staging.parent.iterdir():
                if staging == self._staging:
                    continue
                if staging.is_dir():
                    _sweep(staging)


def _sweep(staging: Path) -> None:
    """Delete a staging directory unless its owner lives. A living owner may remove its own at any moment, without a lock."""
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
    """Write all of the chunk: a raw file may accept less."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
