"""What people change about how they sign in; each change asks for the password again, and for a code where there is one.

So that a browser left open gives nobody the account. Each is one conditional write on the person's record as the session
found it.
"""

from __future__ import annotations

from dataclasses import replace

from postroom.errors import Conflict, Unauthenticated
from postroom.identity.passwords import Passwords
from postroom.identity.people import People, Person, without_second_factor
from postroom.identity.second_factor import SecondFactor
from postroom.identity.sessions import Session, Sessions, Stage
from postroom.identity.sign_in import SignIn
from postroom.platform.ports.tables import Delete


class Account:
    """See the module's text. Each raises `Unauthenticated` or `TooManyTries` for wrong proof, `Conflict` where the record was
    changed at the same moment."""

    def __init__(
        self, people: People, *, passwords: Passwords, second_factor: SecondFactor, sessions: Sessions, sign_in: SignIn
    ) -> None:
        self._people = people
        self._passwords = passwords
        self._second_factor = second_factor
        self._sessions = sessions
        self._sign_in = sign_in

    def change_password(self, session: Session, current: str, new: str, *, address: str) -> str:
        """Everything that was signed in ends; who changes it stays, by the new token returned. `Invalid`: not allowed."""
        person = session.person
        self._sign_in.check_again(person, current, address=address)
        changed = replace(person, password=self._passwords.hash(new, email=person.email), epoch=person.epoch + 1)
        token, put = self._sessions.begin(changed, Stage.FULL, methods=session.methods, at=session.at)
        self._people.store(changed, put, Delete(session.key))
        return token

    def propose(self, person: Person) -> Person:
        """A new secret for an authenticator app; not in use until it is confirmed."""
        _demand_none(person)
        return self._people.store(self._second_factor.proposed(person))

    def confirm(self, person: Person, code: str, *, password: str, address: str) -> list[str]:
        """Put the proposed secret to use; the recovery codes, shown this once."""
        _demand_none(person)
        self._sign_in.check_again(person, password, address=address)
        confirmed = self._second_factor.confirmed(person, code)
        if confirmed is None:
            raise Unauthenticated("The code is wrong. Is the time on your phone right?")
        enrolled, codes = confirmed
        self._people.store(enrolled)
        return codes

    def remove(self, person: Person, code: str, *, password: str, address: str) -> None:
        """Sign in without a second factor from now on."""
        self._people.store(without_second_factor(self._proven(person, code, password=password, address=address)))

    def renew_recovery(self, person: Person, code: str, *, password: str, address: str) -> list[str]:
        """New recovery codes, shown this once; the old ones are void."""
        renewed, codes = self._second_factor.recoverable(self._proven(person, code, password=password, address=address))
        self._people.store(renewed)
        return codes

    def _proven(self, person: Person, code: str, *, password: str, address: str) -> Person:
        if person.second is None:
            raise Conflict("There is no second factor.")
        self._sign_in.check_again(person, password, address=address)
        return self._sign_in.check_code(person, code, address=address)


def _demand_none(person: Person) -> None:
    """Else a new secret could replace the one in use without a code of it."""
    if person.second is not None:
        raise Conflict("The second step is on: turn it off first.")
