"""Objects: whole files under a key, atomic, versioned.

A key is `/`-separated segments of letters, digits and `. _ - = + @`, up to 512 bytes, no empty, `.` or `..` segment:
it can never leave the store's root (`Invalid`). A `put` shows nothing until it is complete and durable, then the
whole new version; a crash in the middle leaves the old one. Each put makes a new version, newest current; an open
stream keeps the version it opened. `delete` without a version hides the key (a marker, as in S3): its versions
remain readable by version until `purge`. Listing is in byte order of keys, shows only current ones, and is strongly
consistent. Objects may have any size; memory does not grow with it. `sha256` is of the whole content, checked when a whole object
is read (`Corrupt`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from postroom.clock import Instant
from postroom.errors import Invalid

MAX_KEY_BYTES = 512
_SEGMENT = re.compile(r"[A-Za-z0-9._=+@-]+")
_PREFIX = re.compile(r"[A-Za-z0-9._=+@/-]*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The metadata of one version of an object."""

    key: str
    version: str
    size: int
    sha256: str
    """Hex, lower case."""
    content_type: str
    stored_at: Instant


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """Part of a listing. `cursor` asks for the next part; None: that was all. Opaque text."""

    objects: Sequence[ObjectInfo]
    cursor: str | None


class Objects(Protocol):
    """The object store of an installation."""

    def put(
        self,
        key: str,
        content: bytes | BinaryIO | Iterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
    ) -> ObjectInfo:
        """Store a new version. With `if_absent`, raises `Conflict` if the key has a current version; of two racing puts
        one wins."""
        ...

    def get(self, key: str, version: str | None = None) -> bytes:
        """The whole content. Raises `NotFound`."""
        ...

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """A stream to read; close it after use. Do not seek: only the embedded backend could. Raises `NotFound`."""
        ...

    def read(self, key: str, start: int, length: int, version: str | None = None) -> bytes:
        """A range of bytes: short at the end of the object, empty beyond it. Raises `NotFound`."""
        ...

    def info(self, key: str, version: str | None = None) -> ObjectInfo | None:
        """The metadata, or None if there is no such object."""
        ...

    def versions(self, key: str) -> list[ObjectInfo]:
        """All versions, newest first."""
        ...

    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 100) -> ObjectPage:
        """Current objects whose key begins with `prefix`; `limit` 1 to 1,000."""
        ...

    def delete(self, key: str) -> None:
        """Hide the key. May be repeated."""
        ...

    def purge(self, prefix: str) -> int:
        """Delete every version of every key that begins with `prefix` (at least one character). Returns how many versions."""
        ...


def check_object_key(key: str) -> None:
    """Checks that the key cannot leave the store's root."""
    segments = key.split("/")
    if len(key) > MAX_KEY_BYTES:
        raise Invalid(f"An object key of {len(key)} characters is too long: up to {MAX_KEY_BYTES}.")
    if not all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in segments):
        raise Invalid(
            f"{key!r} is no object key: segments of letters, digits and '._-=+@' joined by '/', none empty, '.' or '..'."
        )


def check_object_prefix(prefix: str) -> None:
    """Checks that a key could begin with this prefix."""
    if len(prefix) > MAX_KEY_BYTES or not _PREFIX.fullmatch(prefix):
        raise Invalid(f"{prefix!r} begins no object key: letters, digits and '._-=+@/' only.")
