"""What a client asks for when it sends a browser here (RFC 6749 §4.1.1, RFC 7636, OpenID Connect Core §3.1.2.1), checked.

First the client and where the answer may go: until both are known nothing is redirected anywhere, the person is told. Only
then is the rest judged, and its errors go to the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from postroom.errors import Permanent
from postroom.identity.clients import CODE, Client, Clients
from postroom.identity.refusals import PageRefused

SCOPES = ("openid", "profile", "email", "offline_access")
MAX_STATE, MAX_NONCE = 1_024, 256
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_PROMPTS = {"none", "login", "consent", "select_account"}
_DIGITS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that may be answered."""

    client: Client
    redirect_uri: str
    state: str | None
    scope: tuple[str, ...]
    nonce: str | None
    challenge: str
    prompts: frozenset[str]
    max_age_s: int | None
    hint: str


class Redirected(Permanent):
    """An error that goes to the client, by the person's browser."""

    def __init__(self, uri: str, code: str, text: str, *, state: str | None) -> None:
        super().__init__(text)
        self.uri = uri
        self.code = code
        self.state = state


def answer_url(uri: str, parameters: Mapping[str, str | None]) -> str:
    """Where the browser goes, with an answer. Registered addresses have no query."""
    return f"{uri}?{urlencode({name: value for name, value in parameters.items() if value is not None})}"


def read(given: Iterable[tuple[str, str]], clients: Clients) -> Asked:
    """The request. `PageRefused`: for the person; `Redirected`: for the client."""
    pairs = list(given)
    values = dict(pairs)
    client, uri = _trusted(pairs, values, clients)
    state = values.get("state")
    if state is not None and (len(state) > MAX_STATE or not _PRINTABLE.fullmatch(state)):
        raise Redirected(uri, "invalid_request", f"state has at most {MAX_STATE} printable ASCII characters", state=None)
    for code, text in _faults(pairs, values):
        raise Redirected(uri, code, text, state=state)
    asked = values.get("scope", "").split()
    return Asked(
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


def _trusted(pairs: list[tuple[str, str]], values: Mapping[str, str], clients: Clients) -> tuple[Client, str]:
    """The client, and where answers to it go."""
    names = [name for name, _ in pairs]
    if names.count("client_id") != 1 or names.count("redirect_uri") != 1:
        raise PageRefused("The link that led here is not complete: client_id and redirect_uri must stand in it once.")
    client = clients.find(values["client_id"])
    if client is None or CODE not in client.grants:
        raise PageRefused("The application that sent you here is not known. Nothing was sent back to it.")
    if not client.may_redirect(values["redirect_uri"]):
        raise PageRefused(f"{client.name} asked to be answered at an address that is not registered. Nothing was sent there.")
    return client, values["redirect_uri"]


def _faults(pairs: list[tuple[str, str]], values: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """What is wrong, worst first: the RFC's word and a text."""
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        yield "invalid_request", "a parameter stands in the request twice"
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
