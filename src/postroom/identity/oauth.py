"""OAuth 2.0 clients and requests, without HTTP: errors, client registration and authentication, authorization requests.

- Clients: the console and the command line are public and always registered; a tenant's own clients have a secret. Redirect URIs
  must match exactly; only the command line, on a loopback address, may choose its port (RFC 8252 7.3).
- Client authentication (RFC 6749 2.3): HTTP Basic, or in the form. A public client only names itself.
- Authorization requests (RFC 6749 4.1.1, RFC 7636, OpenID Connect Core 3.1.2.1): until client and redirect URI are both valid,
  errors are shown to the user and nothing is redirected (RFC 6749 4.1.2.1); later errors go to the client.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus, urlencode, urlsplit

from postroom.clock import Clock, Instant
from postroom.errors import Invalid, Permanent
from postroom.identity.credentials import digest, new_token
from postroom.ledger.collection import iterate_items
from postroom.model import ids
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables


class OAuthError(Permanent):
    """A protocol error (RFC 6749 5.2, RFC 6750 3). `code`: the RFC's error code; the text is for the client's developer."""

    def __init__(self, code: str, text: str, *, status: int = 400, challenge: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.challenge = challenge
        """The `WWW-Authenticate` field of the answer."""


class PageError(Permanent):
    """An error shown on a page, because no redirect is safe. The text says what to do."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


CONSOLE, COMMAND_LINE = "console", "cli"
CODE, REFRESH, CREDENTIALS = "authorization_code", "refresh_token", "client_credentials"
MAX_NAME = 100
_ID = re.compile(r"([a-z0-9-]{1,40})\.[a-z2-7]{16}")
_ALWAYS = Instant(0)
_LOOPBACK = {"127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """A registered client."""

    id: str
    name: str
    grants: frozenset[str]
    tenant: str | None = None
    """None: a client of the platform, for all tenants."""
    redirects: tuple[str, ...] = ()
    any_port: bool = False
    after_logout: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)
    """A digest; None: a public client, which proves nothing but its PKCE verifier."""
    created_at: Instant = _ALWAYS

    def may_redirect(self, uri: str) -> bool:
        """Whether an answer may go there."""
        return uri in self.redirects or (self.any_port and _without_port(uri) in self.redirects)

    def proves(self, secret: str) -> bool:
        """Whether the secret is this client's."""
        return self.secret is not None and hmac.compare_digest(self.secret, digest(secret))


class RegisteredClient(NamedTuple):
    """A new client, and its secret, which is shown this once."""

    client: OAuthClient
    secret: str


class OAuthClients:
    """Repository of clients."""

    def __init__(self, tables: Tables, clock: Clock, *, own: Sequence[OAuthClient]) -> None:
        self._tables = tables
        self._clock = clock
        self._own = {client.id: client for client in own}

    def find(self, id: str) -> OAuthClient | None:  # noqa: A002
        """The client, or None."""
        if id in self._own:
            return self._own[id]
        key = _key(id)
        item = None if key is None else self._tables.get(key)
        return None if item is None else _client_from(item)

    def create(self, tenant: str, *, name: str) -> RegisteredClient:
        """Register a client. Raises `Invalid` if the name is not usable."""
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise Invalid(f"a client's name has 1 to {MAX_NAME} characters that can be printed")
        secret, now = new_token(self._clock), self._clock.now()
        id_ = f"{tenant}.{ids.encode(int.from_bytes(self._clock.random(10), 'big'), 16)}"
        key = _key(id_)
        if key is None:
            raise Invalid(f"{tenant!r} is no tenant's id")
        item = Item(key, {"name": name.strip(), "secret": digest(secret), "at": now}, 1)
        self._tables.write([Put(key, item.data, Expect.ABSENT)])
        return RegisteredClient(_client_from(item), secret)

    def iterate(self, tenant: str) -> Iterator[OAuthClient]:
        """All clients of a tenant."""
        return map(_client_from, iterate_items(self._tables, f"{tenant}#clients"))

    def revoke(self, id: str) -> bool:  # noqa: A002
        """Remove a program; whether there was one. What it has runs out within minutes; at once where its membership ends."""
        key = _key(id)
        if key is None or self._tables.get(key) is None:
            return False
        self._tables.write([Delete(key)])
        return True


def own_clients(url: str) -> list[OAuthClient]:
    """The console at `url`, and the command line, which listens on a loopback address (RFC 8252)."""
    grants = frozenset({CODE, REFRESH})
    console = (f"{url}/", f"{url}/callback", f"{url}/silent")
    local = ("http://127.0.0.1/callback", "http://[::1]/callback")
    return [
        OAuthClient(id=CONSOLE, name="Postroom", grants=grants, redirects=console, after_logout=(f"{url}/",)),
        OAuthClient(id=COMMAND_LINE, name="Postroom on the command line", grants=grants, redirects=local, any_port=True),
    ]


def _without_port(uri: str) -> str | None:
    """A loopback address as it is registered; None for any other."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme != "http" or host not in _LOOPBACK or port is None or port == 0:
        return None
    shown = f"[{host}]" if ":" in host else host
    bare = f"http://{shown}{parts.path}"
    return bare if uri == f"http://{shown}:{port}{parts.path}" else None


def _key(id: str) -> ItemKey | None:  # noqa: A002
    found = _ID.fullmatch(id)
    return None if found is None else ItemKey(f"{found[1]}#clients", id)


def _client_from(item: Item) -> OAuthClient:
    return OAuthClient(
        id=item.key.sort,
        name=item.data["name"],
        grants=frozenset({CREDENTIALS}),
        tenant=item.key.partition.removesuffix("#clients"),
        secret=item.data["secret"],
        created_at=Instant(item.data["at"]),
    )


_BASIC = 'Basic realm="postroom", charset="UTF-8"'


def authenticate_client(form: Mapping[str, str], authorization: str | None, clients: OAuthClients) -> OAuthClient:
    """The client. `OAuthError`: the same words for one that is unknown and for a wrong secret."""
    challenge = None if authorization is None else _BASIC
    name, secret = _client_by_id(form, authorization)
    client = clients.find(name)
    if client is None or not _proven(client, secret):
        raise OAuthError("invalid_client", "the client is unknown, or its secret is wrong", status=401, challenge=challenge)
    return client


def _proven(client: OAuthClient, secret: str | None) -> bool:
    if client.secret is None:
        return secret is None
    return secret is not None and client.proves(secret)


def _client_by_id(form: Mapping[str, str], authorization: str | None) -> tuple[str, str | None]:
    """What it calls itself, and the secret it shows."""
    if authorization is None:
        return form.get("client_id", ""), form.get("client_secret")
    if "client_secret" in form:
        raise OAuthError("invalid_request", "a client proves itself in one way, not in two")
    name, secret = _basic(authorization)
    if form.get("client_id", name) != name:
        raise OAuthError("invalid_request", "client_id is not the one in the Authorization field")
    return name, secret


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, coded = authorization.partition(" ")
    try:
        name, colon, secret = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        name, colon, secret = "", "", ""
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "the Authorization field must be Basic", status=401, challenge=_BASIC)
    return unquote_plus(name), unquote_plus(secret)


SCOPES = ("openid", "profile", "email", "offline_access")
MAX_STATE, MAX_NONCE = 1_024, 256
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_PROMPTS = {"none", "login", "consent", "select_account"}
_DIGITS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request that may be answered."""

    client: OAuthClient
    redirect_uri: str
    state: str | None
    scope: tuple[str, ...]
    nonce: str | None
    challenge: str
    prompts: frozenset[str]
    max_age_s: int | None
    hint: str


class RedirectedError(Permanent):
    """An error returned to the client by redirect (RFC 6749 4.1.2.1)."""

    def __init__(self, uri: str, code: str, text: str, *, state: str | None) -> None:
        super().__init__(text)
        self.uri = uri
        self.code = code
        self.state = state


def answer_url(uri: str, parameters: Mapping[str, str | None]) -> str:
    """Where the browser goes, with an answer. Registered addresses have no query."""
    return f"{uri}?{urlencode({name: value for name, value in parameters.items() if value is not None})}"


def parse_authorization_request(given: Iterable[tuple[str, str]], clients: OAuthClients) -> AuthorizationRequest:
    """The valid request. Raises `PageError` (shown to the user) or `RedirectedError` (sent to the client)."""
    pairs = list(given)
    values = dict(pairs)
    client, uri = _trusted(pairs, values, clients)
    state = values.get("state")
    if state is not None and (len(state) > MAX_STATE or not _PRINTABLE.fullmatch(state)):
        raise RedirectedError(uri, "invalid_request", f"state has at most {MAX_STATE} printable ASCII characters", state=None)
    for code, text in _faults(pairs, values):
        raise RedirectedError(uri, code, text, state=state)
    asked = values.get("scope", "").split()
    return AuthorizationRequest(
        client=client,
        redirect_uri=uri,
        state=state,
        scope=tuple(scope for scope in SCOPES if scope in asked),
        nonce=values.get("nonce"),
        challenge=values["code_challenge"],
        prompts=frozenset(values.get("prompt", "").split()),
        max_age_s=int(values["max_age"]) if "max_age" in values else None,
        hint=values.get("login_hint", "")[:254],
    )


def _trusted(pairs: list[tuple[str, str]], values: Mapping[str, str], clients: OAuthClients) -> tuple[OAuthClient, str]:
    """The client, and where answers to it go."""
    names = [name for name, _ in pairs]
    if names.count("client_id") != 1 or names.count("redirect_uri") != 1:
        raise PageError("The link that led here is not complete: client_id and redirect_uri must stand in it once.")
    client = clients.find(values["client_id"])
    if client is None or CODE not in client.grants:
        raise PageError("The application that sent you here is not known. Nothing was sent back to it.")
    if not client.may_redirect(values["redirect_uri"]):
        raise PageError(f"{client.name} asked to be answered at an address that is not registered. Nothing was sent there.")
    return client, values["redirect_uri"]


def _faults(pairs: list[tuple[str, str]], values: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """What is wrong, worst first: the RFC's word and a text."""
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        yield "invalid_request", "a parameter appears twice in the request"
    for name in ("request", "request_uri"):
        if name in values:
            yield f"{name}_not_supported", "request objects are not supported"
    if values.get("response_type") != "code":
        yield "unsupported_response_type", "response_type must be code"
    if values.get("response_mode", "query") != "query":
        yield "invalid_request", "response_mode must be query"
    if values.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(values.get("code_challenge", "")):
        yield "invalid_request", "PKCE is required: code_challenge with code_challenge_method S256"
    if "openid" not in values.get("scope", "").split():
        yield "invalid_scope", "scope must contain openid"
    yield from _faults_of_openid(values)


def _faults_of_openid(values: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    prompts = set(values.get("prompt", "").split())
    if len(values.get("nonce", "")) > MAX_NONCE or not _PRINTABLE.fullmatch(values.get("nonce", "")):
        yield "invalid_request", f"nonce has at most {MAX_NONCE} printable ASCII characters"
    if not prompts <= _PROMPTS or ("none" in prompts and len(prompts) > 1):
        yield "invalid_request", "prompt is not one of its values"
    if "max_age" in values and not _DIGITS.fullmatch(values["max_age"]):
        yield "invalid_request", "max_age is no number of seconds"
