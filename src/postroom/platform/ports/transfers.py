"""Transfers: URLs that allow their holder to put one object, or get it, for a limited time, and nothing else.

A URL carries its own proof: nothing is stored for it, it needs no other credentials, and it works in any process that serves
the store, before and after a restart. It cannot be revoked; it ends at `expires_at` (a transfer that began continues).
- **A put** fixes the key, the exact size and the content type, and the content if `sha256` is given. It never overwrites: the
  first content stays. The client sends the method, the headers as given, and the bytes. 200: they are stored, whole and
  durable. 403: changed, expired, or another size or type than signed. 409 or 412: the object exists already. Other 4xx: a
  checksum did not match. Cut off anywhere, a put leaves nothing, and may be repeated until it is answered: bytes that arrived
  are never stored twice and never changed.
- **A get** returns the object's bytes, as a file to be saved (`Content-Disposition: attachment`), or one range of them on
  request.
- **Limits**: a life of up to 7 days (`Invalid`; the maximum of Signature Version 4,
  https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html), a size up to 5 GB, keys as in `objects`.
- **Arrival** is not notified: `arrived` looks it up in what is stored, without reading the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.objects import check_object_key

MAX_LIFE_MS = 7 * 86_400_000
MAX_BYTES = 5_000_000_000
"""The maximum of one S3 request."""


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """A request that its holder may make."""

    method: str
    url: str
    headers: Mapping[str, str]
    """To be sent unchanged. A browser sends `Content-Length` by itself."""
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class ArrivedObject:
    """The stored object."""

    version: str
    size: int
    """Bytes."""


class Transfers(Protocol):
    """Signs URLs for one object each."""

    def put(self, key: str, *, size: int, content_type: str, expires_at: Instant, sha256: str | None = None) -> PresignedRequest:
        """A URL to put the object once. `sha256` in hex."""
        ...

    def get(self, key: str, *, filename: str, content_type: str, expires_at: Instant) -> PresignedRequest:
        """A URL to download the object. It answers 404 while the object is absent."""
        ...

    def arrived(self, key: str) -> ArrivedObject | None:
        """The stored object, or None if nothing was put there yet."""
        ...


@dataclass(frozen=True, slots=True)
class TransferPermission:
    """What a URL permits, for a backend whose own HTTP server serves it."""

    method: str
    key: str
    content_type: str
    expires_at: Instant
    size: int = 0
    """For a put, as is `sha256`."""
    sha256: str | None = None
    filename: str = ""
    """For a get."""


class TransferVerifier(Protocol):
    """Verifies URLs signed by `Transfers` of the same backend."""

    def granted(self, method: str, token: str) -> TransferPermission:
        """What the URL's last segment permits. Raises `Denied` if it was not signed here, was changed, is for another method or
        expired."""
        ...


def check_transfer(key: str, expires_at: Instant, now: Instant, *, size: int = 0) -> None:
    """Checks the limits, for both backends."""
    check_object_key(key)
    if not 0 < expires_at - now <= MAX_LIFE_MS:
        raise Invalid(f"A URL cannot live for {(expires_at - now) / 1000:g} s: more than 0 and up to {MAX_LIFE_MS // 1000} s.")
    if not 0 <= size <= MAX_BYTES:
        raise TooLarge(f"A transfer of {size} bytes is too large: up to {MAX_BYTES}.")


def attachment(filename: str) -> str:
    """A `Content-Disposition` for a file to be saved, with an ASCII name for old clients first (RFC 6266 4.3)."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-+=@,()") else "_" for c in filename)
    coded = quote(filename, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}"
