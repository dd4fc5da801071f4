"""What may be exchanged for tokens: authorization codes (once, within a minute) and refresh tokens (once each, in families).

- **A code** is stored as a digest. Redeeming it is one write: the code is marked, its family comes into being. A crash
  after that and before the answer leaves a code that is used and a refresh token nobody has ever seen.
- **A family** is every refresh token that followed from one sign-in, kept in one item: the digest of the only one that is
  good now. A refresh token has two halves: the family's name, as secret as the rest, and its own secret. Whoever knows the
  name and not the present secret has an old token: one of the two who have it is a thief, so the family ends (RFC 9700
  §4.14.2).
- Of two who present the same code or token at the same moment one write wins; the other is a reuse, and ends the family
  too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt
from postroom.identity.opaque import digest, new_token
from postroom.identity.refusals import Refused
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

CODE_S = 60
FAMILY_S = 30 * 86_400
"""From the sign-in on, however often it is refreshed."""
_REMEMBERED_S = 86_400
"""A code that comes again within a day ends what it gave."""
_CODES, _FAMILIES = "#issuer#codes", "#issuer#families"
_NAME_LENGTH = 43

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who allowed which client what."""

    client: str
    subject: str
    epoch: int
    scope: tuple[str, ...]
    signed_in_at: Instant
    methods: tuple[str, ...]
    nonce: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code's record."""

    grant: Grant
    redirect_uri: str
    challenge: str
    good_until: Instant
    family: str | None = None
    """The family that it gave, by its key; None: not used yet. "": burnt."""


class Issued(NamedTuple):
    """What a client gets: who, and the refresh token."""

    grant: Grant
    refresh_token: str


class Grants:
    """All of them."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def code(self, grant: Grant, *, redirect_uri: str, challenge: str) -> str:
        """A new code."""
        token, now = new_token(self._clock), self._clock.now()
        until = Instant(now + CODE_S * 1_000)
        code = Code(grant=grant, redirect_uri=redirect_uri, challenge=challenge, good_until=until)
        self._tables.write([Put(_code_key(token), _data(code), Expect.ABSENT, Instant(now + _REMEMBERED_S * 1_000))])
        return token

    def redeem(self, token: str, *, client: str, redirect_uri: str, challenge: str) -> Issued:
        """Tokens for a code; any try uses it up, a second one ends what the first gave. `Refused`."""
        item = self._tables.get(_code_key(token))
        if item is None:
            raise _refused("the code is unknown or too old")
        code = _convert(item, Code)
        if code.family is not None:
            _LOG.warning("a code of %s for %s came again: what it gave is revoked", code.grant.subject, code.grant.client)
            self._end(code.family)
            raise _refused("the code was used before: everything it gave is revoked")
        fits = (code.grant.client, code.redirect_uri, code.challenge) == (client, redirect_uri, challenge)
        if not fits or code.good_until <= self._clock.now():
            self._burn(item, code)
            raise _refused("the code is too old, or not for this client, redirect_uri and code_verifier")
        return self._redeemed(item, code, token)

    def refresh(self, token: str, *, client: str) -> Issued:
        """The next refresh token of the family; an old one ends it. `Refused`."""
        item = self._tables.get(_family_key(token))
        if item is None or item.data["grant"]["client"] != client:
            raise _refused("the refresh token is unknown, revoked or too old")
        if item.data["current"] != digest(token):
            _LOG.warning(
                "an old refresh token of %s for %s came again: its family is revoked", item.data["grant"]["subject"], client
            )
            self._end(item.key.sort)
            raise _refused("the refresh token was used before: sign in again")
        renewed = token[:_NAME_LENGTH] + new_token(self._clock)
        put = Put(item.key, {**item.data, "current": digest(renewed)}, item.version, item.expires_at)
        try:
            self._tables.write([put])
        except Conflict as conflict:  # the same token at the same moment
            self._end(item.key.sort)
            raise _refused("the refresh token was used before: sign in again") from conflict
        return Issued(_grant(item), renewed)

    def revoke(self, token: str, *, client: str) -> None:
        """End a refresh token's family (RFC 7009), if it is that client's; an unknown token is no error."""
        item = self._tables.get(_family_key(token))
        if item is not None and item.data["grant"]["client"] == client:
            self._end(item.key.sort)

    def _redeemed(self, item: Item, code: Code, token: str) -> Issued:
        refresh = new_token(self._clock) + new_token(self._clock)
        key = _family_key(refresh)
        used = Put(item.key, _data(replace(code, family=key.sort)), item.version, item.expires_at)
        data = {"grant": _data(code.grant), "current": digest(refresh)}
        expires = Instant(self._clock.now() + FAMILY_S * 1_000)
        try:
            self._tables.write([used, Put(key, data, Expect.ABSENT, expires)])
        except Conflict as conflict:  # the same code at the same moment: the winner's family ends as well
            self._end_family_of(token)
            raise _refused("the code was used before: everything it gave is revoked") from conflict
        return Issued(code.grant, refresh)

    def _burn(self, item: Item, code: Code) -> None:
        try:
            self._tables.write([Put(item.key, _data(replace(code, family="")), item.version, item.expires_at)])
        except Conflict:  # somebody else used it at this moment
            return

    def _end_family_of(self, token: str) -> None:
        item = self._tables.get(_code_key(token))
        if item is not None:
            self._end(_convert(item, Code).family)

    def _end(self, family: str | None) -> None:
        if family:
            self._tables.write([Delete(ItemKey(_FAMILIES, family))])


def _code_key(token: str) -> ItemKey:
    return ItemKey(_CODES, digest(token))


def _family_key(token: str) -> ItemKey:
    return ItemKey(_FAMILIES, digest(token[:_NAME_LENGTH]))


def _refused(text: str) -> Refused:
    return Refused("invalid_grant", text)


def _data(record: Code | Grant) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(record)
    return data


def _grant(item: Item) -> Grant:
    try:
        return msgspec.convert(item.data["grant"], Grant)
    except msgspec.ValidationError as error:
        raise Corrupt(f"a family of refresh tokens cannot be read: {error}") from error


def _convert(item: Item, kind: type[Code]) -> Code:
    try:
        return msgspec.convert(item.data, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"an authorization code cannot be read: {error}") from error
