"""Fetches SNS's own pages: signing certificates, and the page that confirms a subscription.

Which URLs may be fetched is decided before (`sns.SnsVerifier`). No redirects, up to 64 KB, about five seconds, one request at a
time: an envelope that names certificates which do not exist occupies no more than that. A result is cached for 10 s, errors
included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from postroom.clock import Clock
from postroom.errors import Denied, PostroomError, Unavailable
from postroom.ledger.ttl_cache import TtlCache

if TYPE_CHECKING:
    import httpx2 as httpx

LIMIT_BYTES = 64 * 1024
LIMIT_S = 5.0
CACHED_S = 10.0
_MAX_WAIT_S = 2.0
_CACHE_SIZE = 256
_PLAIN = {"Accept-Encoding": "identity"}  # a small response must not unpack to a large one


class SnsUnavailable(Unavailable):
    """SNS cannot be reached now. Any caller can cause this, so it says nothing about our own services' health."""


class SnsClient:
    """A `sns.FetchUrl`. Thread-safe."""

    def __init__(self, clock: Clock, *, endpoint: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`endpoint`: replaces SNS's own host, if the operator configured one."""
        self._clock = clock
        self._endpoint = endpoint
        self._transport = transport
        self._lock = Lock()
        self._cache: TtlCache[str, bytes | tuple[type[PostroomError], str]] = TtlCache(clock, most=_CACHE_SIZE)

    def __call__(self, url: str) -> bytes:
        """The page's body. Raises `Denied` if SNS answers 4xx, `SnsUnavailable` for any other failure."""
        if (page := self._cached(url)) is not None:
            return page
        with self._locked():
            if (page := self._cached(url)) is not None:  # another thread fetched it meanwhile
                return page
            try:
                page = self._get(self._at_endpoint(url))
            except PostroomError as error:
                self._cache.put(url, (type(error), str(error)), seconds=CACHED_S)
                raise
            self._cache.put(url, page, seconds=CACHED_S)
            return page

    def _cached(self, url: str) -> bytes | None:
        found = self._cache.get(url)
        if isinstance(found, tuple):
            raise found[0](found[1])
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_MAX_WAIT_S):
            raise SnsUnavailable("another request to SNS is under way")
        try:
            yield
        finally:
            self._lock.release()

    def _at_endpoint(self, url: str) -> str:
        if self._endpoint is None:
            return url
        parts = urlsplit(url)
        return f"{self._endpoint}{parts.path}" + (f"?{parts.query}" if parts.query else "")

    def _get(self, url: str) -> bytes:
        import httpx2 as httpx  # only here: most processes never fetch from SNS

        body, until = b"", self._clock.monotonic() + LIMIT_S
        client = httpx.Client(
            timeout=LIMIT_S, follow_redirects=False, transport=self._transport, trust_env=url.startswith("https:")
        )
        try:
            with client, client.stream("GET", url, headers=_PLAIN) as response:
                if response.status_code != httpx.codes.OK:
                    kind = Denied if response.is_client_error else SnsUnavailable
                    raise kind(f"SNS answered {response.status_code} at {urlsplit(url).path[:120]}")
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > LIMIT_BYTES or self._clock.monotonic() > until:
                        raise SnsUnavailable("SNS sends too much, or too slowly")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SnsUnavailable(f"the request to SNS failed: {type(error).__name__}") from error
        return body
