"""Objects: whole files under a key, atomic, versioned.

A key is `/`-separated segments of letters, digits and `. _ - = + @`, up to 512 bytes, no empty, `.` or `..` segment:
it can never leave the store's root (`Invalid`). A `put` shows nothing until it is complete and durable, then the
whole new version; a crash in the middle leaves the old one. Each put makes a new version, newest current; an open
stream keeps the version it opened. `delete` without a version hides the key (a marker, as in S3): its versions
remain readable by version until `purge`. Listing is in byte order of keys, shows only current ones, and is strongly
consistent. Any size; memory does not grow with it. `sha256` is of the whole content, checked when a whole object is
read (`Corrupt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from postroom.clock import Instant

MAX_KEY_BYTES = 512


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of one version of an object."""

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
    """See the module's text."""

    def put(
        self,
        key: str,
        content: bytes | BinaryIO | Iterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
    ) -> ObjectInfo:
        """Store a new version. `if_absent`: only where the key has no current version, else `Conflict`; two racing puts
        have one winner."""
        ...

    def get(self, key: str, version: str | None = None) -> bytes:
        """The whole content. `NotFound`."""
        ...

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """A stream to read, close it after use; seekable on one machine only, so do not seek. `NotFound`."""
        ...

    def read(self, key: str, start: int, length: int, version: str | None = None) -> bytes:
        """A range of bytes, short at the end of the object, empty beyond it. `NotFound`."""
        ...

    def info(self, key: str, version: str | None = None) -> ObjectInfo | None:
        """What is known without reading it; None where there is no such object."""
        ...

    def versions(self, key: str) -> list[ObjectInfo]:
        """All versions, newest first; empty where there are none."""
        ...

    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 100) -> ObjectPage:
        """Current objects whose key begins with `prefix`; `limit` 1 to 1,000."""
        ...

    def delete(self, key: str) -> None:
        """Hide the key. Again: harmless."""
        ...

    def purge(self, prefix: str) -> int:
        """Delete every version of every key that begins with `prefix` (at least one character), for good; how many versions."""
        ...
