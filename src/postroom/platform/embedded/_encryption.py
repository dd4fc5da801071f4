"""Encryption of objects: which objects, and how.

Each version has its own data key (AES-256-GCM), wrapped by `ports.secrets` for the object's key, so content cannot be
moved to another object. The wrapped key is in the index beside size and digest of the *plain* content, so listing costs
nothing more, and a new master key only changes the wrapping in the index: no file is written again, no version changes.
Killed at any moment, `rewrap_all` has rewrapped some hundreds of keys at a time, and the next call continues.

Content is chunks of 64 KB, each followed by its tag. A chunk's nonce is its number and whether it is the last (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). So a range is read without the rest, and content that was cut,
extended, swapped or repeated is `Corrupt`. Memory does not grow with the content.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.errors import Corrupt
from postroom.platform.embedded._files import disk_errors
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.secrets import DataKey, Secrets

CHUNK_BYTES = 64 * 1024
_TAG_BYTES = 16
_STORED_BYTES = CHUNK_BYTES + _TAG_BYTES


class ObjectEncryption:
    """Decides which objects are encrypted, and wraps and unwraps their data keys."""

    def __init__(self, secrets: Secrets, applies: Callable[[str], bool]) -> None:
        self._secrets = secrets
        self._applies = applies

    def new_key(self, key: str) -> DataKey | None:
        """A data key for a new version, or None if it is stored in clear."""
        return self._secrets.new_key(_purpose(key)) if self._applies(key) else None

    def unwrap(self, key: str, wrapped: str) -> bytes:
        """The data key of a version. Raises `Corrupt` or `Unavailable`."""
        try:
            return self._secrets.unwrap(_purpose(key), wrapped)
        except Corrupt as error:
            raise Corrupt(f"object {key} cannot be decrypted: {error}") from error

    def is_current(self, wrapped: str) -> bool:
        """Whether the newest master key wrapped it."""
        return self._secrets.is_current(wrapped)

    def rewrap(self, key: str, wrapped: str) -> str:
        """The same data key under the newest master key."""
        return self._secrets.rewrap(_purpose(key), wrapped)


def encrypted(chunks: Iterable[bytes], data_key: bytes) -> Iterator[bytes]:
    """The encrypted content, in pieces about as large as the given chunks."""
    cipher, number = AESGCM(data_key), 0
    held = b""
    for chunk in chunks:
        plain = memoryview(held + chunk)
        whole = max(0, (len(plain) - 1) // CHUNK_BYTES)  # the rest may be the last chunk, which is never empty
        parts = [plain[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES] for at in range(whole)]
        if parts:
            yield b"".join(cipher.encrypt(_nonce(number + at), part, None) for at, part in enumerate(parts))
        number += whole
        held = bytes(plain[whole * CHUNK_BYTES :])
    yield cipher.encrypt(_nonce(number, last=True), held, None)


def decrypted(file: BinaryIO, data_key: bytes, *, key: str, size: int) -> BinaryIO:
    """The plain content, `size` bytes, of a `file` written by `encrypted`. Seekable. Reading raises `Corrupt` if it was
    changed."""
    return cast("BinaryIO", io.BufferedReader(_Decrypted(file, data_key, key, size), CHUNK_BYTES))


class _Decrypted(io.RawIOBase):
    """The stream of `decrypted`. Buffers one chunk."""

    def __init__(self, file: BinaryIO, data_key: bytes, key: str, size: int) -> None:
        self._file, self._cipher = file, AESGCM(data_key)
        self._key, self._size = key, size
        self._last = max(0, size - 1) // CHUNK_BYTES
        self._position, self._number, self._plain = 0, -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        number, start = divmod(self._position, CHUNK_BYTES)
        if self._position >= self._size and self._size:
            return 0
        part = memoryview(self._chunk(number))[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK_BYTES) or b"", b""))

    def close(self) -> None:
        self._file.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        if number != self._number:
            last = number == self._last
            length = self._size - number * CHUNK_BYTES + _TAG_BYTES if last else _STORED_BYTES
            with disk_errors(self._key):
                self._file.seek(number * _STORED_BYTES)
                stored = self._file.read(length + last)  # at the end one byte more, to notice added bytes
            if len(stored) != length:
                raise _damaged(self._key)
            try:
                self._plain, self._number = self._cipher.decrypt(_nonce(number, last=last), stored, None), number
            except InvalidTag:
                raise _damaged(self._key) from None
        return self._plain


def _damaged(key: str) -> Corrupt:
    return Corrupt(f"Object {key} is damaged: its content is not what was stored. Restore it from a backup.")


def _nonce(number: int, *, last: bool = False) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _purpose(key: str) -> str:
    """The purpose for `ports.secrets`: hashed, because a key may be longer than a purpose."""
    return "object/" + hashlib.sha256(key.encode()).hexdigest()


ENCRYPTION_SCHEMA = """
-- The wrapped data key of each version whose content is encrypted.
CREATE TABLE sealing (
    version INTEGER PRIMARY KEY,
    wrapped TEXT    NOT NULL
) STRICT;

CREATE TRIGGER version_gone AFTER DELETE ON version BEGIN DELETE FROM sealing WHERE version = OLD.id; END;
"""

_AFTER = """
SELECT sealing.version, key, wrapped FROM sealing JOIN version ON version.id = sealing.version
WHERE sealing.version > ? ORDER BY sealing.version LIMIT 500
"""

# Only the wrapping that was read; a version that was purged meanwhile stays gone.
_REWRAP = "UPDATE sealing SET wrapped = ? WHERE version = ? AND wrapped = ?"


class _Wrapping(NamedTuple):
    """The wrapped data key of one version."""

    version: int
    key: str
    wrapped: str


def rewrap_all(database: Database, sealing: ObjectEncryption) -> tuple[int, int]:
    """Wrap every data key under the newest master key. Returns how many were rewrapped, and how many cannot be."""
    done = left = after = 0
    while batch := _after(database, after):
        after = batch[-1].version
        old = [wrapping for wrapping in batch if not sealing.is_current(wrapping.wrapped)]
        new = [pair for wrapping in old if (pair := _rewrapped(sealing, wrapping)) is not None]
        left += len(old) - len(new)
        if new:
            with database.write() as connection:
                connection.executemany(_REWRAP, new)
            done += len(new)
    return done, left


def _after(database: Database, version: int) -> list[_Wrapping]:
    with database.read() as connection:
        return [_Wrapping(*row) for row in connection.execute(_AFTER, (version,))]


def _rewrapped(sealing: ObjectEncryption, old: _Wrapping) -> tuple[str, int, str] | None:
    try:
        return sealing.rewrap(old.key, old.wrapped), old.version, old.wrapped
    except Corrupt:
        return None
