"""Checks for `doctor` that Postroom responds at the public URL of links in mail. Blocking.

It requests the pixel of an invalid token, which is answered with the image too and records nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2 as httpx

from postroom.model.finding import Finding, Level

_SUBJECT = "public URL"
_TIMEOUT_S = 5.0
_HEADERS = {"User-Agent": "postroom-doctor", "Accept-Encoding": "identity"}
_PIXEL = b"GIF8"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def examine_public_url(url: str, *, transport: httpx.BaseTransport | None = None) -> Iterator[Finding]:
    if urlsplit(url).scheme != "https" and urlsplit(url).hostname not in _LOOPBACK:
        todo = "put TLS in front of the API and write https://"
        yield Finding(_SUBJECT, Level.WARN, "not https: mail programs offer no one-click unsubscribing (RFC 8058)", todo)
    try:
        client = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, transport=transport)
        with client, client.stream("GET", f"{url}/t/o/doctor", headers=_HEADERS) as answer:
            start = next(answer.iter_bytes(), b"")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        todo = "start `postroom serve`, or look from outside where this network does not lead there"
        yield Finding(_SUBJECT, Level.WARN, f"{url} does not answer: {type(error).__name__}", todo)
        return
    if answer.status_code == httpx.codes.OK and start.startswith(_PIXEL):
        yield Finding(_SUBJECT, Level.OK, f"Postroom answers at {url}")
        return
    todo = "route /t/ and /u/, with every method, to this installation's API"
    yield Finding(_SUBJECT, Level.FAIL, f"{url}/t/… answered {answer.status_code}, and not as Postroom does", todo)
