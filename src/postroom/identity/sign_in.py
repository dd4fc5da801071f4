"""Signing in: a password, then the second factor where there is one. Nothing tells whether somebody exists.

Each try is counted before it is checked (issuer.tries). The second factor's code, the new session and the end of the
halfway one are one write: a crash leaves the person halfway with the code unused, or signed in with it used.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from postroom.errors import Conflict, Unauthenticated
from postroom.identity.passwords import Passwords
from postroom.identity.people import People, Person, email_digest
from postroom.identity.second_factor import SecondFactor
from postroom.identity.sessions import Session, Sessions, Stage
from postroom.identity.tries import ADDRESS, PASSWORD, SECOND, Counted, Tries, address_name
from postroom.platform.ports.tables import Delete, Put, Tables

_LOG = logging.getLogger(__name__)


class SignIn:
    """See the module's text."""

    def __init__(
        self,
        tables: Tables,
        people: People,
        *,
        passwords: Passwords,
        second_factor: SecondFactor,
        sessions: Sessions,
        tries: Tries,
    ) -> None:
        self._tables = tables
        self._people = people
        self._passwords = passwords
        self._second_factor = second_factor
        self._sessions = sessions
        self._tries = tries

    def with_password(self, email: str, password: str, *, address: str) -> tuple[str, Stage]:
        """A new session's token, and whether the second factor is still asked for. `Unauthenticated`, `TooManyTries`."""
        counted, shared = by_email(email), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        person = self._people.by_email(email)
        if not self._passwords.matches(person, password) or person is None or person.disabled:
            _LOG.info("a sign-in from %s was refused: %s", address, person.subject if person else "nobody of that name")
            raise Unauthenticated("The e-mail address or the password is wrong.")
        self._tries.passed(counted, shared)
        person = self._rehashed(person, password)
        stage = Stage.FULL if person.second is None else Stage.HALFWAY
        token, put = self._sessions.begin(person, stage)
        self._tables.write([put])
        _LOG.info("%s signed in from %s: %s", person.subject, address, stage)
        return token, stage

    def with_code(self, halfway: Session, code: str, *, address: str) -> str:
        """The token of the complete session; the halfway one is over. `Unauthenticated`, `TooManyTries`."""
        counted, shared = by_subject(halfway.person), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        taken = self._second_factor.taken(halfway.person, code)
        if taken is None:
            _LOG.info("a second step from %s was refused: %s", address, halfway.person.subject)
            raise Unauthenticated("The code is wrong, or was used before.")
        token, put = self._sessions.begin(taken, Stage.FULL, methods=("pwd", "otp"), at=halfway.at)
        self._completed(taken, put, Delete(halfway.key, halfway.version))
        self._tries.passed(counted, shared)
        return token

    def check_again(self, person: Person, password: str, *, address: str) -> None:
        """Before something that matters, of somebody who is signed in. `Unauthenticated`, `TooManyTries`."""
        counted, shared = by_email(person.email), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        if not self._passwords.matches(person, password):
            raise Unauthenticated("The password is wrong.")
        self._tries.passed(counted, shared)

    def check_code(self, person: Person, code: str, *, address: str) -> Person:
        """As `check_again`, for the second factor: the record with the code used up, for the caller to store."""
        counted, shared = by_subject(person), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        taken = self._second_factor.taken(person, code)
        if taken is None:
            raise Unauthenticated("The code is wrong, or was used before.")
        self._tries.passed(counted, shared)
        return taken

    def _completed(self, taken: Person, put: Put, end: Delete) -> None:
        try:
            self._people.store(taken, put, end)
        except Conflict as conflict:  # the same code at the same moment, or the halfway session is over: once is enough
            raise Unauthenticated("The code is wrong, or was used before.") from conflict

    def _rehashed(self, person: Person, password: str) -> Person:
        if not self._passwords.outdated(person):
            return person
        try:
            return self._people.store(replace(person, password=self._passwords.rehash(password)))
        except Conflict:  # somebody changes the record at this moment: the next sign-in does it
            return person


def by_email(email: str) -> Counted:
    """Tries at the password of whoever has, or would have, that address."""
    return Counted(f"person/{email_digest(email)}", PASSWORD)


def by_subject(person: Person) -> Counted:
    """Tries at a person's second factor."""
    return Counted(f"second/{person.subject}", SECOND)
