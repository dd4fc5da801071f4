"""Who may ask for tokens: the console and the command line (public, always known), and a tenant's programs (with a secret).

A redirect must match exactly; only a program on the person's own machine (the command line) may choose its port (RFC 8252
§7.3). A program's id begins with its tenant, and so does its key. A client that is removed gets no token from then on.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from postroom.clock import Clock, Instant
from postroom.errors import Invalid
from postroom.identity.opaque import digest, new_token
from postroom.model import ids
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

CONSOLE, COMMAND_LINE = "console", "cli"
CODE, REFRESH, CREDENTIALS = "authorization_code", "refresh_token", "client_credentials"
MAX_NAME = 100
_ID = re.compile(r"([a-z0-9-]{1,40})\.[a-z2-7]{16}")
_ALWAYS = Instant(0)
_LOOPBACK = {"127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One that may ask."""

    id: str
    name: str
    grants: frozenset[str]
    tenant: str | None = None
    """None: the platform's own, for everybody."""
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


class Registered(NamedTuple):
    """A new client, and its secret, which is shown this once."""

    client: Client
    secret: str


class ClientPage(NamedTuple):
    """Part of a tenant's clients. `cursor` asks for the next part."""

    clients: list[Client]
    cursor: str | None


class Clients:
    """All of them."""

    def __init__(self, tables: Tables, clock: Clock, *, own: Sequence[Client]) -> None:
        self._tables = tables
        self._clock = clock
        self._own = {client.id: client for client in own}

    def find(self, id: str) -> Client | None:  # noqa: A002
        """The client, or None."""
        if id in self._own:
            return self._own[id]
        key = _key(id)
        item = None if key is None else self._tables.get(key)
        return None if item is None else _client(item)

    def create(self, tenant: str, *, name: str) -> Registered:
        """Register a program. `Invalid`: no usable name."""
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise Invalid(f"a client's name has 1 to {MAX_NAME} characters that can be printed")
        secret, now = new_token(self._clock), self._clock.now()
        id_ = f"{tenant}.{ids.encode(int.from_bytes(self._clock.random(10), 'big'), 16)}"
        key = _key(id_)
        if key is None:
            raise Invalid(f"{tenant!r} is no tenant's id")
        item = Item(key, {"name": name.strip(), "secret": digest(secret), "at": now}, 1)
        self._tables.write([Put(key, item.data, Expect.ABSENT)])
        return Registered(_client(item), secret)

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ClientPage:
        """A tenant's programs; `limit` 1 to 1,000."""
        page = self._tables.query(f"{tenant}#clients", cursor=cursor, limit=limit)
        return ClientPage([_client(item) for item in page.items], page.cursor)

    def revoke(self, id: str) -> bool:  # noqa: A002
        """Remove a program; whether there was one. What it has runs out within minutes; at once where its membership ends."""
        key = _key(id)
        if key is None or self._tables.get(key) is None:
            return False
        self._tables.write([Delete(key)])
        return True


def own_clients(url: str) -> list[Client]:
    """The console, at the door itself, and the command line, which listens on the person's own machine for the answer."""
    grants = frozenset({CODE, REFRESH})
    console = (f"{url}/", f"{url}/callback", f"{url}/silent")
    local = ("http://127.0.0.1/callback", "http://[::1]/callback")
    return [
        Client(id=CONSOLE, name="Postroom", grants=grants, redirects=console, after_logout=(f"{url}/",)),
        Client(id=COMMAND_LINE, name="Postroom on the command line", grants=grants, redirects=local, any_port=True),
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


def _client(item: Item) -> Client:
    return Client(
        id=item.key.sort,
        name=item.data["name"],
        grants=frozenset({CREDENTIALS}),
        tenant=item.key.partition.removesuffix("#clients"),
        secret=item.data["secret"],
        created_at=Instant(item.data["at"]),
    )
