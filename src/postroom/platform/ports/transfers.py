"""Transfers: URLs that let whoever holds them put one object, or get it, for a while, and nothing else.

A URL carries its own proof: nothing is stored for it, it needs no other credentials, and it works in any process that serves
the store, before and after a restart. It cannot be called back; it ends at `expires_at` (a transfer that began goes on).
- **A put** fixes the key, the exact size and the content type, and the content where `sha256` is given. It never overwrites:
  what arrived first stays. The client sends the method, the headers as given, and the bytes. 200: they are there, whole
  and durable. 403: changed, expired, or another size or type than signed. 409 or 412: something is there already. 4xx of
  another kind: a checksum did not fit. Cut off anywhere, it leaves nothing, and may be repeated until it is answered: bytes that
  arrived are never stored twice and never changed.
- **A get** answers the object's bytes, as a file to be saved (`Content-Disposition: attachment`), one range of them where asked.
- **Limits**: a life of up to 7 days (`Invalid`; Signature Version 4 has no longer one), a size up to 5 GB, keys as in `objects`.
- **Arrival** is asked for, not told: `arrived` answers from what is stored, without reading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.limits import check_object_key

MAX_LIFE_MS = 7 * 86_400_000
MAX_BYTES = 5_000_000_000
"""S3 takes no more in one request."""


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """A request that its holder may make."""

    method: str
    url: str
    headers: Mapping[str, str]
    """To be sent as they are. A browser sends `Content-Length` by itself."""
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class ArrivedObject:
    """What is there."""

    version: str
    size: int
    """Bytes."""


class Transfers(Protocol):
    """See the module's text."""

    def put(self, key: str, *, size: int, content_type: str, expires_at: Instant, sha256: str | None = None) -> PresignedRequest:
        """A URL to put the object once; `sha256` in hex."""
        ...

    def get(self, key: str, *, filename: str, content_type: str, expires_at: Instant) -> PresignedRequest:
        """A URL to download the object; it answers 404 while there is none."""
        ...

    def arrived(self, key: str) -> ArrivedObject | None:
        """Whether something was put there."""
        ...


@dataclass(frozen=True, slots=True)
class TransferPermission:
    """What a URL allows: for a home whose own door serves such URLs."""

    method: str
    key: str
    content_type: str
    expires_at: Instant
    size: int = 0
    """Of a put, as the next."""
    sha256: str | None = None
    filename: str = ""
    """Of a get."""


class TransferVerifier(Protocol):
    """Reads what `Transfers` of the same home signed."""

    def granted(self, method: str, token: str) -> TransferPermission:
        """What the URL's last segment allows. `Denied`: not signed here, or changed, or for another method, or expired."""
        ...


def check_transfer(key: str, expires_at: Instant, now: Instant, *, size: int = 0) -> None:
    """The limits, for both homes."""
    check_object_key(key)
    if not 0 < expires_at - now <= MAX_LIFE_MS:
        raise Invalid(f"A URL cannot live for {(expires_at - now) / 1000:g} s: more than 0 and up to {MAX_LIFE_MS // 1000} s.")
    if not 0 <= size <= MAX_BYTES:
        raise TooLarge(f"A transfer of {size} bytes is too large: up to {MAX_BYTES}.")


def attachment(filename: str) -> str:
    """A `Content-Disposition` for a file to be saved: RFC 6266 §4.3, with a name for old clients first."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-+=@,()") else "_" for c in filename)
    coded = quote(filename, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}"
