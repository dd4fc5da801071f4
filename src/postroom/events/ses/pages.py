"""Fetches what stands at SNS's own addresses: certificates, and the page that confirms a subscription.

Which address that may be is decided before (sns). No redirects, up to 64 KB, about five seconds, two at a time: whoever posts
envelopes that name certificates which there are not keeps no more of us busy than that. What failed is not asked for again at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from urllib.parse import urlsplit

import httpx2 as httpx

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.ledger.recent import Recent

LIMIT_BYTES = 64 * 1024
LIMIT_S = 5.0
AGAIN_S = 10.0
_AT_ONCE = 2
_FAILURES = 256
_PLAIN = {"Accept-Encoding": "identity"}  # what is small must not unpack to something large


class SnsPages:
    """A `sns.Fetch`. For several threads."""

    def __init__(self, clock: Clock, *, endpoint: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`endpoint`: stands in for SNS's own host, where the operator says so."""
        self._clock = clock
        self._endpoint = endpoint
        self._transport = transport
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._failed: Recent[str, str] = Recent(clock, most=_FAILURES)

    def __call__(self, url: str) -> bytes:
        """What is there. `Unavailable`."""
        if (reason := self._failed.get(url)) is not None:
            raise Unavailable(reason)
        with self._turn():
            try:
                return self._get(self._placed(url))
            except Unavailable as error:
                self._failed.put(url, str(error), seconds=AGAIN_S)
                raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=LIMIT_S):
            raise Unavailable("SNS is being asked for other things already")
        try:
            yield
        finally:
            self._turns.release()

    def _placed(self, url: str) -> str:
        if self._endpoint is None:
            return url
        parts = urlsplit(url)
        return f"{self._endpoint}{parts.path}" + (f"?{parts.query}" if parts.query else "")

    def _get(self, url: str) -> bytes:
        body, until = b"", self._clock.monotonic() + LIMIT_S
        client = httpx.Client(
            timeout=LIMIT_S, follow_redirects=False, transport=self._transport, trust_env=url.startswith("https:")
        )
        try:
            with client, client.stream("GET", url, headers=_PLAIN) as response:
                if response.status_code != httpx.codes.OK:
                    raise Unavailable(f"SNS answered {response.status_code} at {urlsplit(url).path[:120]}")
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > LIMIT_BYTES or self._clock.monotonic() > until:
                        raise Unavailable("SNS sends too much, or too slowly")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"SNS does not answer as it should: {type(error).__name__}") from error
        return body
