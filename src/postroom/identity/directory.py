"""Identity (platform.ports.identity) at the built-in issuer: its directory of people, and links for us to hand over."""

from __future__ import annotations

import re

from postroom.errors import NotFound
from postroom.identity.issuer import Issuer
from postroom.identity.people import Person
from postroom.platform.ports.identity import AccountStatus, Invitation, UserAccount

_SUBJECT = re.compile(r"[a-z0-9]{1,40}")


class Directory:
    """See ports.identity."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._people = issuer.people

    @property
    def issuer(self) -> str:
        return self._issuer.membership_issuer

    def invite(self, email: str) -> Invitation:
        person = self._people.by_email(email) or self._people.create(email)
        return Invitation(_account(person), self._issuer.invitations.invite(person))

    def find(self, who: str) -> UserAccount | None:
        person = self._people.by_email(who) or (self._people.find(who) if _SUBJECT.fullmatch(who) else None)
        return None if person is None else _account(person)

    def disable(self, subject: str) -> None:
        self._people.disable(_checked(subject))

    def enable(self, subject: str) -> None:
        self._people.enable(_checked(subject))

    def reset_second_factor(self, subject: str) -> None:
        self._people.reset_second_factor(_checked(subject))

    def remove(self, subject: str) -> bool:
        return bool(_SUBJECT.fullmatch(subject)) and self._people.delete(subject)


def _checked(subject: str) -> str:
    """`NotFound`: nobody was ever given such a subject."""
    if not _SUBJECT.fullmatch(subject):
        raise NotFound(f"there is no person {subject[:80]!r}")
    return subject


def _account(person: Person) -> UserAccount:
    return UserAccount(person.subject, person.email, _state(person), second_factor=person.second is not None)


def _state(person: Person) -> AccountStatus:
    if person.disabled:
        return AccountStatus.DISABLED
    return AccountStatus.INVITED if person.password is None else AccountStatus.ACTIVE
