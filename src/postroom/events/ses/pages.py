"""Fetches what stands at SNS's own addresses: certificates, and the page that confirms a subscription.

Which address that may be is decided before (sns). No redirects, up to 64 KB, about five seconds, one at a time: whoever posts
envelopes that name certificates which there are not keeps no more of us busy than that, and does not make us look sick. What was
found is not asked for again at once, nor what was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from urllib.parse import urlsplit

import httpx2 as httpx

from postroom.clock import Clock
from postroom.errors import Denied, PostroomError, Unavailable
from postroom.ledger.recent import Recent

LIMIT_BYTES = 64 * 1024
LIMIT_S = 5.0
AGAIN_S = 10.0
_TURN_S = 2.0
_REMEMBERED = 256
_PLAIN = {"Accept-Encoding": "identity"}  # what is small must not unpack to something large


class SnsAway(Unavailable):
    """SNS's own pages cannot be had now. Anybody can bring that about, so it says nothing about what is behind the door."""


class SnsPages:
    """A `sns.Fetch`. For several threads."""

    def __init__(self, clock: Clock, *, endpoint: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`endpoint`: stands in for SNS's own host, where the operator says so."""
        self._clock = clock
        self._endpoint = endpoint
        self._transport = transport
        self._one = Lock()
        self._recent: Recent[str, bytes | tuple[type[PostroomError], str]] = Recent(clock, most=_REMEMBERED)

    def __call__(self, url: str) -> bytes:
        """What is there. `Denied`: nothing, SNS says. `SnsAway`."""
        if (page := self._known(url)) is not None:
            return page
        with self._turn():
            if (page := self._known(url)) is not None:  # somebody had it fetched meanwhile
                return page
            try:
                page = self._get(self._placed(url))
            except PostroomError as error:
                self._recent.put(url, (type(error), str(error)), seconds=AGAIN_S)
                raise
            self._recent.put(url, page, seconds=AGAIN_S)
            return page

    def _known(self, url: str) -> bytes | None:
        found = self._recent.get(url)
        if isinstance(found, tuple):
            raise found[0](found[1])
        return found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._one.acquire(timeout=_TURN_S):
            raise SnsAway("SNS is being asked for other things already")
        try:
            yield
        finally:
            self._one.release()

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
                    kind = Denied if response.is_client_error else SnsAway
                    raise kind(f"SNS answered {response.status_code} at {urlsplit(url).path[:120]}")
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > LIMIT_BYTES or self._clock.monotonic() > until:
                        raise SnsAway("SNS sends too much, or too slowly")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SnsAway(f"SNS does not answer as it should: {type(error).__name__}") from error
        return body
