"""Which client calls, and that it is that client (RFC 6749 §2.3): by HTTP Basic, or in the form; a public one names itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from postroom.identity.clients import Client, Clients
from postroom.identity.refusals import Refused

_BASIC = 'Basic realm="postroom", charset="UTF-8"'


def client_of(form: Mapping[str, str], authorization: str | None, clients: Clients) -> Client:
    """The client. `Refused`: the same words for one that is unknown and for a wrong secret."""
    challenge = None if authorization is None else _BASIC
    name, secret = _named(form, authorization)
    client = clients.find(name)
    if client is None or not _proven(client, secret):
        raise Refused("invalid_client", "the client is unknown, or its secret is wrong", status=401, challenge=challenge)
    return client


def _proven(client: Client, secret: str | None) -> bool:
    if client.secret is None:
        return secret is None
    return secret is not None and client.proves(secret)


def _named(form: Mapping[str, str], authorization: str | None) -> tuple[str, str | None]:
    """What it calls itself, and the secret it shows."""
    if authorization is None:
        return form.get("client_id", ""), form.get("client_secret")
    if "client_secret" in form:
        raise Refused("invalid_request", "a client proves itself in one way, not in two")
    name, secret = _basic(authorization)
    if form.get("client_id", name) != name:
        raise Refused("invalid_request", "client_id is not the one in the Authorization field")
    return name, secret


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, coded = authorization.partition(" ")
    try:
        name, colon, secret = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        name, colon, secret = "", "", ""
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "the Authorization field must be Basic", status=401, challenge=_BASIC)
    return unquote_plus(name), unquote_plus(secret)
