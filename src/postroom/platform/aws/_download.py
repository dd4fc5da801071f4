"""An object of S3 as a stream: it outlives a broken connection, and proves at its end to be what was stored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError

from postroom.errors import Corrupt
from postroom.platform.aws._errors import translate

CHUNK_BYTES = 1 << 20
_RESUMES = 3
"""Broken connections in a row, without a byte in between, before the reader hears of it."""


class Download(io.RawIOBase):
    """Reads `body`; where it breaks, `resume(position)` opens the rest of the same version."""

    def __init__(self, body: Any, resume: Callable[[int], Any], key: str, sha256: str | None) -> None:
        self._body = body
        self._resume = resume
        self._key = key
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        chunk = self._read(len(view))
        view[: len(chunk)] = chunk
        self._position += len(chunk)
        self._hash.update(chunk)
        if not chunk and len(view) and self._sha256 not in (None, self._hash.hexdigest()):
            raise Corrupt(f"Object {self._key} is damaged: its content is not what was stored. Restore an older version.")
        return len(chunk)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))

    def _read(self, size: int) -> bytes:
        broken = 0
        while True:
            try:
                return bytes(self._body.read(size))
            except BotoCoreError as error:
                broken += 1
                if broken > _RESUMES:
                    raise translate(error, f"reading the object {self._key}") from error
            self._body.close()
            self._body = self._resume(self._position)

    def close(self) -> None:
        self._body.close()
        super().close()
