"""An issuer's public keys (RFC 7517): fetched when needed, cached, and fetched again when a token names an unknown one.

- The issuer is asked at most once in `PAUSE_S`, however many requests wait; one request fetches, the others wait for it or use
  the cached keys.
- Keys are refreshed after `FRESH_S`. If the issuer is down, cached keys stay valid for `STALE_S`: its outage does not stop the
  API, but a withdrawn key expires.
- Only RSA keys of 2,048 bits and more and P-256 keys are used, each for one algorithm that the token cannot choose.

Keys of another OpenID provider come over HTTP: its discovery document (OpenID Connect Discovery 1.0, section 4), then the key
set. The issuer's address is a setting, never taken from a token. https, except on loopback; no redirects; up to 256 KB a
response; five seconds for connecting, for each silence and for both bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64decode

from postroom.clock import Clock
from postroom.errors import Temporary, Unavailable
from postroom.telemetry.logs import event_logger

if TYPE_CHECKING:
    import httpx2 as httpx


LIMIT_BYTES = 262_144
LIMIT_S = 5.0
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}  # a small response must not unpack to a large one


def fetch_jwks(issuer: str, clock: Clock, *, transport: httpx.BaseTransport | None = None) -> Mapping[str, Any]:
    """The issuer's JWK set. Raises `Unavailable` if it does not respond, or not as an OpenID provider must."""
    until = clock.monotonic() + LIMIT_S
    document = _get(issuer.rstrip("/") + "/.well-known/openid-configuration", clock, until=until, transport=transport)
    if document.get("issuer") != issuer:
        raise Unavailable(f"{issuer} says that it is another issuer")
    address = document.get("jwks_uri")
    if not isinstance(address, str):
        raise Unavailable(f"{issuer} does not say where its keys are")
    return _get(address, clock, until=until, transport=transport)


def fetch_jwks_at(url: str, clock: Clock, *, transport: httpx.BaseTransport | None = None) -> Mapping[str, Any]:
    """The JWK set at this URL. Raises `Unavailable`."""
    return _get(url, clock, until=clock.monotonic() + LIMIT_S, transport=transport)


def _get(url: str, clock: Clock, *, until: float, transport: httpx.BaseTransport | None) -> Mapping[str, Any]:
    import httpx2 as httpx  # imported here: an installation that uses only API keys never loads an HTTP client

    if not is_safe(url):
        raise Unavailable(f"{url} is not https: an attacker on the network could replace the issuer's keys")
    body, proxied = b"", url.startswith("https:")  # plain http is allowed on loopback only, so it must not go through a proxy
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
    """Whether the response cannot be changed on the way: https, or loopback."""
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


FRESH_S = 600.0
STALE_S = 86_400.0
PAUSE_S = 10.0
WAIT_S = 3.0
_LEAST_RSA_BITS = 2_048
_MOST_KEYS = 100
_log = event_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key and the one algorithm it verifies."""

    algorithm: str
    key: ECKey | RSAKey = field(repr=False)


class JwksSource(Protocol):
    """Looks up an issuer's keys."""

    def key(self, kid: str) -> VerifyingKey | None:
        """The key with that id; None if the issuer has none. Blocking.

        Raises `Unavailable` if no key is known and the issuer does not respond."""
        ...


class Jwks:
    """Caches an issuer's keys. `fetch` returns its JWK set, or raises `Temporary`."""

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = Lock()
        self._keys: dict[str, VerifyingKey] = {}
        self._fetched = self._asked = float("-inf")

    def key(self, kid: str) -> VerifyingKey | None:
        known = self._usable().get(kid)
        if known is None:
            self._ask_again(wait=WAIT_S)
        elif self._clock.monotonic() - self._fetched > FRESH_S:
            self._ask_again(wait=0)
        keys = self._usable()
        if not keys:
            raise Unavailable("the issuer's keys cannot be fetched now: no token can be checked")
        return keys.get(kid)

    def _usable(self) -> Mapping[str, VerifyingKey]:
        return self._keys if self._clock.monotonic() - self._fetched < STALE_S else {}

    def _ask_again(self, *, wait: float) -> None:
        """Fetch unless another thread just did, or is doing so. A failure keeps the cached keys."""
        if not self._lock.acquire(timeout=wait) if wait else not self._lock.acquire(blocking=False):
            return
        try:
            now = self._clock.monotonic()
            if now - self._asked >= PAUSE_S:
                self._asked = now
                self._keys, self._fetched = _usable_keys(self._fetch()), now
        except Temporary as error:
            _log.warning("auth.issuer_keys_not_fetched", reason=str(error))
        finally:
            self._lock.release()


def LocalJwks(published: Callable[[], Mapping[str, Any]], clock: Clock) -> Jwks:  # noqa: N802  # reads as a kind of source
    """The built-in issuer's keys, without a network call."""
    return Jwks(published, clock)


def HttpJwks(issuer_url: str, clock: Clock, *, at: str | None = None) -> Jwks:  # noqa: N802  # reads as a kind of source
    """An OpenID provider's keys, found by its discovery document, or at the URL `at`."""

    def fetch() -> Mapping[str, Any]:
        return fetch_jwks(issuer_url, clock) if at is None else fetch_jwks_at(at, clock)

    return Jwks(fetch, clock)


def _usable_keys(jwks: Mapping[str, Any]) -> dict[str, VerifyingKey]:
    """Keys that can verify tokens here, by id. Others are ignored (RFC 7517 section 5)."""
    listed = jwks.get("keys")
    keys: dict[str, VerifyingKey] = {}
    for jwk in listed[:_MOST_KEYS] if isinstance(listed, list) else []:
        key = _key(jwk) if isinstance(jwk, dict) else None
        if key is not None:
            keys.setdefault(jwk["kid"], key)
    return keys


def _key(jwk: dict[str, Any]) -> VerifyingKey | None:
    if not isinstance(jwk.get("kid"), str) or jwk.get("use", "sig") != "sig":
        return None
    public: dict[str, str | list[str]] = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
    try:
        match jwk.get("kty"), jwk.get("crv"), jwk.get("alg"):
            case "EC", "P-256", None | "ES256":
                return VerifyingKey("ES256", ECKey.import_key(public))
            case "RSA", None, None | "RS256" if _bits(jwk["n"]) >= _LEAST_RSA_BITS:
                return VerifyingKey("RS256", RSAKey.import_key(public))
    except (JoseError, ValueError, TypeError, KeyError):  # not a valid key
        return None
    return None


def _bits(modulus: str) -> int:
    return int.from_bytes(urlsafe_b64decode(modulus.encode()), "big").bit_length()
