"""Content on its way into and out of the object store: read in chunks, hashed, checked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from postroom.errors import Corrupt
from postroom.platform.embedded._files import disk_errors

CHUNK_BYTES = 1 << 20


class Incoming:
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
            check(self._key, self._hash.hexdigest(), self._sha256)
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()


def checked_stream(file: BinaryIO, key: str, sha256: str) -> BinaryIO:
    """`file` to be read: at its end `Corrupt` is raised if it is not what was stored."""
    return io.BufferedReader(_Checked(file, key, sha256), CHUNK_BYTES)


def check(key: str, found: str, stored: str) -> None:
    """Compare two digests of an object's content."""
    if found != stored:
        raise Corrupt(f"Object {key} is damaged: its content is not what was stored. Restore it from a backup.")
