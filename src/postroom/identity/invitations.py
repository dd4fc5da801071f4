"""One-time links by which a person sets a password, the first or a new one. An operator makes them and hands them over.

A link is good for a day and once: setting the password, its epoch rising (which ends older links and all that was signed
in) and the end of the link are one write. The link's token is stored as a digest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound
from postroom.identity.opaque import digest, new_token
from postroom.identity.passwords import Passwords
from postroom.identity.people import People, Person
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables

LASTS_S = 86_400
PATH = "/oauth2/invitation"
_PARTITION = "#issuer#invitations"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that is still good."""

    key: ItemKey
    person: Person
    version: int


class Invitations:
    """All of them."""

    def __init__(self, tables: Tables, clock: Clock, *, people: People, passwords: Passwords, url: str) -> None:
        self._tables = tables
        self._clock = clock
        self._people = people
        self._passwords = passwords
        self._url = url

    def invite(self, person: Person) -> str:
        """A new link. Earlier ones stay good until one of them is used."""
        token = new_token(self._clock)
        data = {"subject": person.subject, "epoch": person.epoch}
        expires = Instant(self._clock.now() + LASTS_S * 1_000)
        self._tables.write([Put(_key(token), data, Expect.ABSENT, expires)])
        return f"{self._url}{PATH}?token={token}"

    def find(self, token: str) -> Invitation:
        """The link, while it is good. `NotFound`."""
        item = self._tables.get(_key(token))
        person = None if item is None else self._people.find(item.data["subject"])
        if item is None or person is None or person.disabled or person.epoch != item.data["epoch"]:
            raise NotFound("This link was used, or is too old. Ask for a new one.")
        return Invitation(item.key, person, item.version)

    def accept(self, token: str, password: str) -> Person:
        """Set the password. `Invalid`: not allowed, and the link stays good; `NotFound`."""
        invitation = self.find(token)
        person = invitation.person
        hashed = self._passwords.hash(password, email=person.email)
        changed = replace(person, password=hashed, epoch=person.epoch + 1)
        try:
            return self._people.store(changed, Delete(invitation.key, invitation.version))
        except Conflict as conflict:  # used at the same moment, or the person's record was changed
            raise NotFound("This link was just used. If it was not by you, ask for a new one.") from conflict


def _key(token: str) -> ItemKey:
    return ItemKey(_PARTITION, digest(token))
