"""One-time links by which a person sets a password, the first or a new one. An operator makes them and hands them over.

A link is good for a day and once: setting the password, its epoch rising (which ends older links and all that was signed
in) and the end of the link are one write. The link's token is stored as a digest.

Who is signed in at the issuer, browser by browser: kept here, the browser holds only a token.

Each step of signing in gives a new token (never one that the browser brought along), so that nobody can plant a session. A
session ends with its time, by signing out, or when the person's epoch has risen.

Signing in: a password, then the second factor where there is one. Nothing tells whether somebody exists.

Each try is counted before it is checked (issuer.tries). The second factor's code, the new session and the end of the
halfway one are one write: a crash leaves the person halfway with the code unused, or signed in with it used.

What people change about how they sign in; each change asks for the password again, and for a code where there is one.

So that a browser left open gives nobody the account. Each is one conditional write on the person's record as the session
found it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, Unauthenticated
from postroom.identity.login_throttle import ADDRESS, PASSWORD, SECOND, Counted, LoginThrottle, address_name
from postroom.identity.passwords import Passwords
from postroom.identity.random_tokens import digest, new_token
from postroom.identity.second_factor import SecondFactor
from postroom.identity.users import User, Users, email_digest, without_second_factor
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables

INVITATION_S = 86_400
INVITATION_PATH = "/oauth2/invitation"
_INVITATIONS = "#issuer#invitations"


@dataclass(frozen=True, slots=True)
class PendingInvitation:
    """A link that is still good."""

    key: ItemKey
    person: User
    version: int


class Invitations:
    """All of them."""

    def __init__(self, tables: Tables, clock: Clock, *, people: Users, passwords: Passwords, url: str) -> None:
        self._tables = tables
        self._clock = clock
        self._people = people
        self._passwords = passwords
        self._url = url

    def invite(self, person: User) -> str:
        """A new link. Earlier ones stay good until one of them is used."""
        token = new_token(self._clock)
        data = {"subject": person.subject, "epoch": person.epoch}
        expires = Instant(self._clock.now() + INVITATION_S * 1_000)
        self._tables.write([Put(_invitation_key(token), data, Expect.ABSENT, expires)])
        return f"{self._url}{INVITATION_PATH}?token={token}"

    def find(self, token: str) -> PendingInvitation:
        """The link, while it is good. `NotFound`."""
        item = self._tables.get(_invitation_key(token))
        person = None if item is None else self._people.find(item.data["subject"])
        if item is None or person is None or person.disabled or person.epoch != item.data["epoch"]:
            raise NotFound("This link was used, or is too old. Ask for a new one.")
        return PendingInvitation(item.key, person, item.version)

    def accept(self, token: str, password: str) -> User:
        """Set the password. `Invalid`: not allowed, and the link stays good; `NotFound`."""
        invitation = self.find(token)
        person = invitation.person
        hashed = self._passwords.hash(password, email=person.email)
        changed = replace(person, password=hashed, epoch=person.epoch + 1)
        try:
            return self._people.store(changed, Delete(invitation.key, invitation.version))
        except Conflict as conflict:  # used at the same moment, or the person's record was changed
            raise NotFound("This link was just used. If it was not by you, ask for a new one.") from conflict


def _invitation_key(token: str) -> ItemKey:
    return ItemKey(_INVITATIONS, digest(token))


FULL_S = 12 * 3_600
HALFWAY_S = 600
_SESSIONS = "#issuer#sessions"


class Stage(StrEnum):
    """How far somebody has come."""

    HALFWAY = "halfway"
    """The password was right, the second factor is still asked for."""
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's."""

    key: ItemKey
    person: User
    stage: Stage
    at: Instant
    """When the password was checked."""
    methods: tuple[str, ...]
    """How (RFC 8176): `pwd`, and `otp` with a second factor."""
    version: int


class Sessions:
    """Everybody's."""

    def __init__(self, tables: Tables, clock: Clock, people: Users) -> None:
        self._tables = tables
        self._clock = clock
        self._people = people

    def begin(
        self, person: User, stage: Stage, *, methods: tuple[str, ...] = ("pwd",), at: Instant | None = None
    ) -> tuple[str, Put]:
        """A token for the browser, and the write that makes it good. The epoch is the given person's."""
        now, token = self._clock.now(), new_token(self._clock)
        data = {"subject": person.subject, "epoch": person.epoch, "stage": stage.value, "at": at or now, "methods": list(methods)}
        lasts = FULL_S if stage is Stage.FULL else HALFWAY_S
        return token, Put(_session_key(token), data, Expect.ABSENT, Instant(now + lasts * 1_000))

    def find(self, token: str | None) -> Session | None:
        """The session, while its person is there, allowed, and has not ended it."""
        item = self._tables.get(_session_key(token)) if token else None
        person = None if item is None else self._people.find(item.data["subject"])
        if item is None or person is None or person.disabled or person.epoch != item.data["epoch"]:
            return None
        data = item.data
        return Session(item.key, person, Stage(data["stage"]), Instant(data["at"]), tuple(data["methods"]), item.version)

    def full(self, token: str | None) -> Session | None:
        """The session, if signing in is complete."""
        session = self.find(token)
        return session if session is not None and session.stage is Stage.FULL else None

    def end(self, session: Session) -> None:
        """Sign out; again: harmless."""
        self._tables.write([Delete(session.key)])


def _session_key(token: str) -> ItemKey:
    return ItemKey(_SESSIONS, digest(token))


_log = logging.getLogger(__name__)


class LoginService:
    """See the module's text."""

    def __init__(
        self,
        tables: Tables,
        people: Users,
        *,
        passwords: Passwords,
        second_factor: SecondFactor,
        sessions: Sessions,
        tries: LoginThrottle,
    ) -> None:
        self._tables = tables
        self._people = people
        self._passwords = passwords
        self._second_factor = second_factor
        self._sessions = sessions
        self._tries = tries

    def with_password(self, email: str, password: str, *, address: str) -> tuple[str, Stage]:
        """A new session's token, and whether the second factor is still asked for. `Unauthenticated`, `TooManyTries`."""
        counted, shared = password_counter(email), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        person = self._people.by_email(email)
        if not self._passwords.matches(person, password) or person is None or person.disabled:
            _log.info("a sign-in from %s was refused: %s", address, person.subject if person else "nobody of that name")
            raise Unauthenticated("The e-mail address or the password is wrong.")
        self._tries.passed(counted, shared)
        person = self._rehashed(person, password)
        stage = Stage.FULL if person.second is None else Stage.HALFWAY
        token, put = self._sessions.begin(person, stage)
        self._tables.write([put])
        _log.info("%s signed in from %s: %s", person.subject, address, stage)
        return token, stage

    def with_code(self, halfway: Session, code: str, *, address: str) -> str:
        """The token of the complete session; the halfway one is over. `Unauthenticated`, `TooManyTries`."""
        counted, shared = second_factor_counter(halfway.person), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        taken = self._second_factor.taken(halfway.person, code)
        if taken is None:
            _log.info("a second step from %s was refused: %s", address, halfway.person.subject)
            raise Unauthenticated("The code is wrong, or was used before.")
        token, put = self._sessions.begin(taken, Stage.FULL, methods=("pwd", "otp"), at=halfway.at)
        self._completed(taken, put, Delete(halfway.key, halfway.version))
        self._tries.passed(counted, shared)
        return token

    def check_again(self, person: User, password: str, *, address: str) -> None:
        """Before something that matters, of somebody who is signed in. `Unauthenticated`, `TooManyTries`."""
        counted, shared = password_counter(person.email), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        if not self._passwords.matches(person, password):
            raise Unauthenticated("The password is wrong.")
        self._tries.passed(counted, shared)

    def check_code(self, person: User, code: str, *, address: str) -> User:
        """As `check_again`, for the second factor: the record with the code used up, for the caller to store."""
        counted, shared = second_factor_counter(person), Counted(address_name(address), ADDRESS)
        self._tries.begin([counted, shared])
        taken = self._second_factor.taken(person, code)
        if taken is None:
            raise Unauthenticated("The code is wrong, or was used before.")
        self._tries.passed(counted, shared)
        return taken

    def _completed(self, taken: User, put: Put, end: Delete) -> None:
        try:
            self._people.store(taken, put, end)
        except Conflict as conflict:  # the same code at the same moment, or the halfway session is over: once is enough
            raise Unauthenticated("The code is wrong, or was used before.") from conflict

    def _rehashed(self, person: User, password: str) -> User:
        if not self._passwords.outdated(person):
            return person
        try:
            return self._people.store(replace(person, password=self._passwords.rehash(password)))
        except Conflict:  # somebody changes the record at this moment: the next sign-in does it
            return person


def password_counter(email: str) -> Counted:
    """Tries at the password of whoever has, or would have, that address."""
    return Counted(f"person/{email_digest(email)}", PASSWORD)


def second_factor_counter(person: User) -> Counted:
    """Tries at a person's second factor."""
    return Counted(f"second/{person.subject}", SECOND)


class AccountService:
    """See the module's text. Each raises `Unauthenticated` or `TooManyTries` for wrong proof, `Conflict` where the record was
    changed at the same moment."""

    def __init__(
        self, people: Users, *, passwords: Passwords, second_factor: SecondFactor, sessions: Sessions, sign_in: LoginService
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

    def propose(self, person: User) -> User:
        """A new secret for an authenticator app; not in use until it is confirmed."""
        _demand_none(person)
        return self._people.store(self._second_factor.proposed(person))

    def confirm(self, person: User, code: str, *, password: str, address: str) -> list[str]:
        """Put the proposed secret to use; the recovery codes, shown this once."""
        _demand_none(person)
        self._sign_in.check_again(person, password, address=address)
        confirmed = self._second_factor.confirmed(person, code)
        if confirmed is None:
            raise Unauthenticated("The code is wrong. Is the time on your phone right?")
        enrolled, codes = confirmed
        self._people.store(enrolled)
        return codes

    def remove(self, person: User, code: str, *, password: str, address: str) -> None:
        """Sign in without a second factor from now on."""
        self._people.store(without_second_factor(self._proven(person, code, password=password, address=address)))

    def renew_recovery(self, person: User, code: str, *, password: str, address: str) -> list[str]:
        """New recovery codes, shown this once; the old ones are void."""
        renewed, codes = self._second_factor.recoverable(self._proven(person, code, password=password, address=address))
        self._people.store(renewed)
        return codes

    def _proven(self, person: User, code: str, *, password: str, address: str) -> User:
        if person.second is None:
            raise Conflict("There is no second factor.")
        self._sign_in.check_again(person, password, address=address)
        return self._sign_in.check_code(person, code, address=address)


def _demand_none(person: User) -> None:
    """Else a new secret could replace the one in use without a code of it."""
    if person.second is not None:
        raise Conflict("The second step is on: turn it off first.")
