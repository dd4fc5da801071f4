"""Header fields that every answer carries, unless its handler said otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import Scope

Raw = list[tuple[bytes, bytes]]

_ALWAYS: Raw = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""The policy is for JSON, of which a browser is to load nothing. Pages set their own."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_NO_STORE = (b"cache-control", b"no-store")
_ASK_FIRST = (b"cache-control", b"private, no-cache")
"""For what has an ETag: kept by nobody but the caller, and asked for each time."""

EXPOSED = ("ETag", "Idempotent-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id")
"""What scripts of other origins may read."""


def missing(scope: Scope, given: Raw) -> Iterator[tuple[bytes, bytes]]:
    """What to add to `given`."""
    names = {name.lower() for name, _ in given}
    for field in _ALWAYS:
        if field[0] not in names:
            yield field
    if scope["scheme"] == "https" and _HSTS[0] not in names:
        yield _HSTS
    if b"cache-control" not in names and scope["path"].startswith("/v1/"):
        yield _ASK_FIRST if b"etag" in names else _NO_STORE
