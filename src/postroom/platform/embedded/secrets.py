"""`ports.secrets` on one machine: AES-256-GCM under the master keys of an installation, and where these are kept.

    wrapped   w1.<id of the master key>.<nonce, data key encrypted under the master key>
    sealed    s1.<id of the master key>.<the same>.<plain text encrypted under the data key>

Each seal has its own data key, so its nonce may be fixed. A master key encrypts only random keys of 32 bytes: 2**32 of them
before random nonces of 96 bits come too close (NIST SP 800-38D §8.3). Purpose and form are authenticated with both. Unwrapping
takes a few microseconds, so no plain key is cached.

**Master keys** come from a setting, or from a file that only its owner can read. A line of the file is
`<32 bytes in base64> [<when it was made>]`, the newest first; `openssl rand -base64 32` makes one. A key's id is derived from
the key. The file is created when a key is first needed. Every change is written beside it, synced and renamed, under a lock. So
two processes that need the first key at the same time get the same one, and a crash leaves the file as it was (and
perhaps `.master.key.new`, which the next change removes). Before each use the file is checked with one `stat`: a key that
another process added is used from then on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Invalid, Unavailable
from postroom.platform.embedded._files import FileLock, disk_errors, sync_directory
from postroom.platform.ports.secrets import (
    DAMAGED,
    KEY_BYTES,
    NONCE_BYTES,
    SEALED,
    WRAPPED,
    DataKey,
    SealedText,
    associated_data,
    check_plain,
    parse_sealed_text,
)

MASTER_KEY_BYTES = 32
FILE_NAME = "master.key"
SETTLED_MS = 25 * 3_600_000
"""Older keys are kept this long after the newest was made: a process that used one just before may still be storing, and
answers kept for an `Idempotency-Key`, which last up to a day, are not sealed again."""
_LONG_AGO = Instant(0)
_HEADING = "# Postroom's master keys, the newest first. Keep a copy elsewhere: what they encrypt is lost without them.\n"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One key."""

    plain: bytes = field(repr=False)
    made_at: Instant = _LONG_AGO
    """0 if not known."""

    @property
    def id(self) -> str:
        """Identifies the key in wrapped texts, and reveals nothing of it."""
        return hashlib.sha256(b"postroom master key\0" + self.plain).hexdigest()[:12]


class ConfiguredKeys:
    """Keys from a setting: base64, separated by commas, the newest first."""

    def __init__(self, text: str) -> None:
        """Raises `Invalid` if the text is not such keys."""
        try:
            self._keys = tuple(_key(part) for part in text.split(","))
        except ValueError as error:
            raise Invalid("the master key is not 32 bytes in base64") from error

    def all(self) -> Sequence[MasterKey]:
        """All keys, the newest first; at least one."""
        return self._keys

    def newest(self) -> MasterKey:
        """The key for new seals."""
        return self._keys[0]


class KeyFile:
    """Keys in a file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Does not open or create the file."""
        self._path = path
        self._clock = clock
        self._keys: tuple[MasterKey, ...] = ()
        self._seen: tuple[int, ...] | None = None
        self._guard = threading.Lock()

    def all(self) -> Sequence[MasterKey]:
        """All keys, the newest first; none if the file does not exist yet. Raises `Unavailable` if others may read the file, if
        it cannot be read, or if it was deleted since it was read."""
        with self._guard:
            return self._read()

    def newest(self) -> MasterKey:
        """The key for new seals. Creates the file if absent. Raises as `all`, and `StorageFull`."""
        keys = self.all()
        if not keys:
            with self._changing():
                if not self._read():
                    self._write([self._fresh()])
                keys = self._read()
        return keys[0]

    def add(self) -> MasterKey:
        """Create a new newest key."""
        with self._changing():
            key = self._fresh()
            self._write([key, *self._read()])
        return key

    def drop_older(self) -> int:
        """Delete all keys but the newest. Returns how many. Raises `Conflict` if the newest is too young (SETTLED_MS)."""
        with self._changing():
            keys = self._read()
            if len(keys) < 2:
                return 0
            left_ms = keys[0].made_at + SETTLED_MS - self._clock.now()
            if left_ms > 0:
                raise Conflict(f"the newest master key is young: what was begun before it may still be needed; {_wait(left_ms)}")
            self._write(keys[:1])
        return len(keys) - 1

    def _fresh(self) -> MasterKey:
        return MasterKey(os.urandom(MASTER_KEY_BYTES), self._clock.now())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Exclusive among threads and processes."""
        with self._guard, closing(FileLock(self._path.with_name(f".{self._path.name}.lock"))) as lock:
            lock.acquire()
            yield

    def _read(self) -> tuple[MasterKey, ...]:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if seen != self._seen:
                check_private(self._path, found.st_mode)
                self._keys, self._seen = _parse(self._path.read_bytes(), self._path), seen
        except FileNotFoundError:
            if self._keys:  # a new key would lose what the old one encrypted
                raise Unavailable(f"{self._path} was deleted: restore the master key from your copy") from None
        except OSError as error:
            raise Unavailable(f"the master key in {self._path} cannot be read: {error.strerror}") from error
        return self._keys

    def _write(self, keys: Sequence[MasterKey]) -> None:
        unfinished = self._path.with_name(f".{self._path.name}.new")
        lines = (f"{base64.b64encode(key.plain).decode()} {_time(key.made_at)}\n" for key in keys)
        with disk_errors(self._path):
            with suppress(FileNotFoundError):  # left by a crash
                unfinished.unlink()
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(_HEADING + "".join(lines))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._path)
            sync_directory(self._path.absolute().parent)


def check_private(path: Path, mode: int) -> None:
    """Raises `Unavailable` if others than its owner may read or write the file."""
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Unavailable(f"{path} holds the master key and others on this machine may use it: chmod 600 {path}")


def _parse(text: bytes, path: Path) -> tuple[MasterKey, ...]:
    lines = [line for line in text.decode("ascii", "replace").splitlines() if line.strip() and not line.startswith("#")]
    try:
        keys = tuple(_line(line) for line in lines)
    except ValueError as error:
        raise Corrupt(f"{path} is damaged: a line of it is not 32 bytes in base64; bring it back from your copy") from error
    if not keys:
        raise Corrupt(f"{path} holds no key; bring it back from your copy, or remove it if nothing was ever encrypted")
    return keys


def _line(line: str) -> MasterKey:
    coded, _, made = line.strip().partition(" ")
    made_at = datetime.fromisoformat(made).timestamp() * 1000 if made else 0
    return MasterKey(_key(coded).plain, Instant(round(made_at)))


def _key(coded: str) -> MasterKey:
    """Raises `ValueError` if it is not such a key."""
    try:
        plain = base64.b64decode(coded.strip(), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None  # the cause could show the key
    if len(plain) != MASTER_KEY_BYTES:
        raise ValueError("not 32 bytes")
    return MasterKey(plain)


def _time(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()


def _wait(left_ms: int) -> str:
    return f"try again in {-(-left_ms // 3_600_000)} h"


__all__ = ["FILE_NAME", "ConfiguredKeys", "KeyFile", "MasterSecrets"]
_FIXED_NONCE = bytes(NONCE_BYTES)


class MasterKeys(Protocol):
    """A source of master keys."""

    def all(self) -> Sequence[MasterKey]:
        """All keys, the newest first."""
        ...

    def newest(self) -> MasterKey:
        """The newest key, created if there is none."""
        ...


class MasterSecrets:
    """`ports.secrets.Secrets` under master keys."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def seal(self, purpose: str, plain: bytes) -> str:
        check_plain(plain)
        data_key = os.urandom(KEY_BYTES)
        content = AESGCM(data_key).encrypt(_FIXED_NONCE, plain, associated_data(SEALED, purpose))
        return str(self._wrap(SEALED, purpose, data_key)._replace(content=content))

    def open(self, purpose: str, sealed: str) -> bytes:
        text = parse_sealed_text(sealed, SEALED)
        try:
            return AESGCM(self._unwrap(purpose, text)).decrypt(_FIXED_NONCE, text.content, associated_data(SEALED, purpose))
        except (InvalidTag, ValueError):
            raise Corrupt(DAMAGED) from None

    def new_key(self, purpose: str) -> DataKey:
        data_key = os.urandom(KEY_BYTES)
        return DataKey(data_key, str(self._wrap(WRAPPED, purpose, data_key)))

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        text = parse_sealed_text(wrapped, WRAPPED)
        if text.content:
            raise Corrupt(DAMAGED)
        return self._unwrap(purpose, text)

    def rewrap(self, purpose: str, wrapped: str) -> str:
        return str(self._wrap(WRAPPED, purpose, self.unwrap(purpose, wrapped)))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        keys = self._keys.all()
        return bool(keys) and parse_sealed_text(sealed_or_wrapped, WRAPPED, SEALED).master == keys[0].id

    def _wrap(self, form: str, purpose: str, data_key: bytes) -> SealedText:
        """A wrapped key's text, without content."""
        master, nonce = self._keys.newest(), os.urandom(NONCE_BYTES)
        return SealedText(
            form, master.id, nonce + AESGCM(master.plain).encrypt(nonce, data_key, associated_data(form, purpose)), b""
        )

    def _unwrap(self, purpose: str, text: SealedText) -> bytes:
        master = next((key for key in self._keys.all() if key.id == text.master), None)
        if master is None:
            raise Corrupt(
                f"a secret was encrypted under the master key {text.master}, which is gone; bring it back from your copy"
            )
        nonce, wrapped = text.wrapped[:NONCE_BYTES], text.wrapped[NONCE_BYTES:]
        try:
            return AESGCM(master.plain).decrypt(nonce, wrapped, associated_data(text.form, purpose))
        except (InvalidTag, ValueError):
            raise Corrupt(DAMAGED) from None
