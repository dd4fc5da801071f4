"""Content on its way to S3: spooled, measured and hashed before the first byte is sent."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from postroom.errors import StorageFull

_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Spooled:
    """Content that is known whole and can be read again for another try."""

    file: IO[bytes]
    size: int
    sha256: str

    def parts(self, size: int) -> Iterator[bytes]:
        """All of it in parts of `size`; nothing for empty content."""
        self.file.seek(0)
        while part := self.file.read(size):
            yield part


@contextmanager
def spool(content: bytes | BinaryIO | Iterator[bytes]) -> Iterator[Spooled]:
    """Read the content to its end: in memory up to 8 MiB, then in a temporary file that is gone however we end.

    `StorageFull`: the temporary directory has no room. What the stream or iterator raises goes on to the caller.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        for chunk in _chunks(content):
            digest.update(chunk)
            size += len(chunk)
            _write(file, chunk)
        yield Spooled(file, size, digest.hexdigest())


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise StorageFull(f"the temporary directory {tempfile.gettempdir()} took no more: {error}") from error


def _chunks(content: bytes | BinaryIO | Iterator[bytes]) -> Iterable[bytes]:
    if isinstance(content, bytes | bytearray | memoryview):
        return (bytes(content),)
    if hasattr(content, "read"):
        stream: Any = content
        return iter(lambda: stream.read(_CHUNK_BYTES), b"")
    return content
