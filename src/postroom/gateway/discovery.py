"""An OpenID provider's keys over the network: its discovery document (OpenID Connect Discovery 1.0 §4), then the key set.

The issuer's address is the operator's setting, never a token's word. https, except on loopback; no redirects; up to 256 KB an
answer; five seconds for connecting, for each silence and for both answers' contents, so that a provider that hangs is let go.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from postroom.clock import Clock
from postroom.errors import Unavailable

if TYPE_CHECKING:
    import httpx2 as httpx

LIMIT_BYTES = 262_144
LIMIT_S = 5.0
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}  # what is small must not unpack to something large


def fetch_jwks(issuer: str, clock: Clock, *, transport: httpx.BaseTransport | None = None) -> Mapping[str, Any]:
    """The issuer's JWK set. `Unavailable`: it does not answer, or not as an OpenID provider must."""
    until = clock.monotonic() + LIMIT_S
    document = _get(issuer.rstrip("/") + "/.well-known/openid-configuration", clock, until=until, transport=transport)
    if document.get("issuer") != issuer:
        raise Unavailable(f"{issuer} says that it is another issuer")
    address = document.get("jwks_uri")
    if not isinstance(address, str):
        raise Unavailable(f"{issuer} does not say where its keys are")
    return _get(address, clock, until=until, transport=transport)


def fetch_jwks_at(url: str, clock: Clock, *, transport: httpx.BaseTransport | None = None) -> Mapping[str, Any]:
    """The JWK set at this very address. `Unavailable`."""
    return _get(url, clock, until=clock.monotonic() + LIMIT_S, transport=transport)


def _get(url: str, clock: Clock, *, until: float, transport: httpx.BaseTransport | None) -> Mapping[str, Any]:
    import httpx2 as httpx  # only here: an installation whose callers all use API keys never loads an HTTP client

    if not is_safe(url):
        raise Unavailable(f"{url} is not https: whoever is on the way could put keys in the place of the issuer's")
    body, proxied = b"", url.startswith("https:")  # what is loopback because nobody is on the way must not take one
    client = httpx.Client(timeout=LIMIT_S, follow_redirects=False, transport=transport, trust_env=proxied)
    try:
        with client, client.stream("GET", url, headers=_PLAIN) as response:
            if response.status_code != httpx.codes.OK:
                raise Unavailable(f"{url} answered {response.status_code}")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LIMIT_BYTES or clock.monotonic() > until:
                    raise Unavailable(f"{url} sends too much, or too slowly")
        found = orjson.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
        raise Unavailable(f"{url} does not answer as it should: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise Unavailable(f"{url} is no JSON object")
    return found


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change the answer: https, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
