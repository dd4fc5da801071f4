"""Signing in: invitations, sessions, sign-in and changes to an account.

- **Invitations**: one-time links to set a password, good for a day. Setting it, raising the epoch (which ends older links and
  all sessions) and removing the link are one write. Links and sessions are stored as digests of their tokens.
- **Sessions**: each step of signing in issues a new token, never one the browser sent (session fixation). A session ends when
  it expires, at sign-out, or when the user's epoch rises.
- **Sign-in**: password, then second factor if enrolled. Responses do not reveal whether a user exists. Attempts are counted
  before they are checked (login_throttle). Using a code, creating the full session and ending the halfway one are one write:
  a crash leaves the user halfway with the code unused, or signed in with the code used.
- **Account changes** ask for the password again, and for a code if a second factor is enrolled, so that an open browser is
  not enough. Each is one conditional write on the user as the session found it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, Unauthenticated
from postroom.identity.credentials import Passwords, SecondFactor, digest, new_token
from postroom.identity.login_throttle import ADDRESS, PASSWORD, SECOND, LoginThrottle, ThrottleKey, address_name
from postroom.identity.users import User, Users, email_digest, without_second_factor
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables
from postroom.telemetry.logs import event_logger

INVITATION_S = 86_400
INVITATION_PATH = "/oauth2/invitation"
_INVITATIONS = "#issuer#invitations"


@dataclass(frozen=True, slots=True)
class PendingInvitation:
    """An invitation that can be used."""

    key: ItemKey
    user: User
    version: int


class Invitations:
    """Issues and redeems one-time links to set a password."""

    def __init__(self, tables: Tables, clock: Clock, *, users: Users, passwords: Passwords, url: str) -> None:
        self._tables = tables
        self._clock = clock
        self._users = users
        self._passwords = passwords
        self._url = url

    def invite(self, user: User) -> str:
        """A new link. Earlier ones stay good until one of them is used."""
        token = new_token(self._clock)
        data = {"subject": user.subject, "epoch": user.epoch}
        expires = Instant(self._clock.now() + INVITATION_S * 1_000)
        self._tables.write([Put(_invitation_key(token), data, Expect.ABSENT, expires)])
        return f"{self._url}{INVITATION_PATH}?token={token}"

    def find(self, token: str) -> PendingInvitation:
        """The link, while it is good. `NotFound`."""
        item = self._tables.get(_invitation_key(token))
        user = None if item is None else self._users.find(item.data["subject"])
        if item is None or user is None or user.disabled or user.epoch != item.data["epoch"]:
            raise NotFound("This link was used, or is too old. Ask for a new one.")
        return PendingInvitation(item.key, user, item.version)

    def accept(self, token: str, password: str) -> User:
        """Set the password. `Invalid`: not allowed, and the link stays good; `NotFound`."""
        invitation = self.find(token)
        user = invitation.user
        hashed = self._passwords.hash(password, email=user.email)
        changed = replace(user, password=hashed, epoch=user.epoch + 1)
        try:
            return self._users.store(changed, Delete(invitation.key, invitation.version))
        except Conflict as conflict:  # used at the same moment, or the user record was changed
            raise NotFound("This link was just used. If it was not by you, ask for a new one.") from conflict


def _invitation_key(token: str) -> ItemKey:
    return ItemKey(_INVITATIONS, digest(token))


FULL_S = 12 * 3_600
HALFWAY_S = 600
_SESSIONS = "#issuer#sessions"


class LoginStage(StrEnum):
    """How far a sign-in has come."""

    HALFWAY = "halfway"
    """The password was right; the second factor is missing."""
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session."""

    key: ItemKey
    user: User
    stage: LoginStage
    at: Instant
    """When the password was checked."""
    methods: tuple[str, ...]
    """How (RFC 8176): `pwd`, and `otp` with a second factor."""
    version: int


class Sessions:
    """Repository of browser sessions."""

    def __init__(self, tables: Tables, clock: Clock, users: Users) -> None:
        self._tables = tables
        self._clock = clock
        self._users = users

    def begin(
        self, user: User, stage: LoginStage, *, methods: tuple[str, ...] = ("pwd",), at: Instant | None = None
    ) -> tuple[str, Put]:
        """A token for the browser, and the write that makes it good. The epoch is that of `user`."""
        now, token = self._clock.now(), new_token(self._clock)
        data = {"subject": user.subject, "epoch": user.epoch, "stage": stage.value, "at": at or now, "methods": list(methods)}
        lasts = FULL_S if stage is LoginStage.FULL else HALFWAY_S
        return token, Put(_session_key(token), data, Expect.ABSENT, Instant(now + lasts * 1_000))

    def find(self, token: str | None) -> Session | None:
        """The session, or None if it ended or its user is disabled or deleted."""
        item = self._tables.get(_session_key(token)) if token else None
        user = None if item is None else self._users.find(item.data["subject"])
        if item is None or user is None or user.disabled or user.epoch != item.data["epoch"]:
            return None
        data = item.data
        return Session(item.key, user, LoginStage(data["stage"]), Instant(data["at"]), tuple(data["methods"]), item.version)

    def full(self, token: str | None) -> Session | None:
        """The session, if signing in is complete."""
        session = self.find(token)
        return session if session is not None and session.stage is LoginStage.FULL else None

    def end(self, session: Session) -> None:
        """Sign out; again: harmless."""
        self._tables.write([Delete(session.key)])


def _session_key(token: str) -> ItemKey:
    return ItemKey(_SESSIONS, digest(token))


_log = event_logger(__name__)


class LoginService:
    """Checks passwords and second factors, and starts sessions."""

    def __init__(
        self,
        tables: Tables,
        users: Users,
        *,
        passwords: Passwords,
        second_factor: SecondFactor,
        sessions: Sessions,
        throttle: LoginThrottle,
    ) -> None:
        self._tables = tables
        self._users = users
        self._passwords = passwords
        self._second_factor = second_factor
        self._sessions = sessions
        self._throttle = throttle

    def with_password(self, email: str, password: str, *, address: str) -> tuple[str, LoginStage]:
        """A new session's token, and whether the second factor is still asked for. `Unauthenticated`, `TooManyAttempts`."""
        counted, shared = password_counter(email), ThrottleKey(address_name(address), ADDRESS)
        self._throttle.begin([counted, shared])
        user = self._users.by_email(email)
        if not self._passwords.matches(user, password) or user is None or user.disabled:
            _log.info("login.refused", address=address, subject=user.subject if user else None, factor="password")
            raise Unauthenticated("The e-mail address or the password is wrong.")
        self._throttle.passed(counted, shared)
        user = self._rehashed(user, password)
        stage = LoginStage.FULL if user.second is None else LoginStage.HALFWAY
        token, put = self._sessions.begin(user, stage)
        self._tables.write([put])
        _log.info("login.succeeded", address=address, subject=user.subject, stage=stage.value)
        return token, stage

    def with_code(self, halfway: Session, code: str, *, address: str) -> str:
        """The token of the complete session; the halfway one is over. `Unauthenticated`, `TooManyAttempts`."""
        counted, shared = second_factor_counter(halfway.user), ThrottleKey(address_name(address), ADDRESS)
        self._throttle.begin([counted, shared])
        taken = self._second_factor.taken(halfway.user, code)
        if taken is None:
            _log.info("login.refused", address=address, subject=halfway.user.subject, factor="code")
            raise Unauthenticated("The code is wrong, or was used before.")
        token, put = self._sessions.begin(taken, LoginStage.FULL, methods=("pwd", "otp"), at=halfway.at)
        self._completed(taken, put, Delete(halfway.key, halfway.version))
        self._throttle.passed(counted, shared)
        return token

    def check_again(self, user: User, password: str, *, address: str) -> None:
        """Check a signed-in user's password again. Raises `Unauthenticated` or `TooManyAttempts`."""
        counted, shared = password_counter(user.email), ThrottleKey(address_name(address), ADDRESS)
        self._throttle.begin([counted, shared])
        if not self._passwords.matches(user, password):
            raise Unauthenticated("The password is wrong.")
        self._throttle.passed(counted, shared)

    def check_code(self, user: User, code: str, *, address: str) -> User:
        """As `check_again`, for the second factor: the record with the code used up, for the caller to store."""
        counted, shared = second_factor_counter(user), ThrottleKey(address_name(address), ADDRESS)
        self._throttle.begin([counted, shared])
        taken = self._second_factor.taken(user, code)
        if taken is None:
            raise Unauthenticated("The code is wrong, or was used before.")
        self._throttle.passed(counted, shared)
        return taken

    def _completed(self, taken: User, put: Put, end: Delete) -> None:
        try:
            self._users.store(taken, put, end)
        except Conflict as conflict:  # the same code at the same moment, or the halfway session is over: once is enough
            raise Unauthenticated("The code is wrong, or was used before.") from conflict

    def _rehashed(self, user: User, password: str) -> User:
        if not self._passwords.outdated(user):
            return user
        try:
            return self._users.store(replace(user, password=self._passwords.rehash(password)))
        except Conflict:  # the record changed at this moment: the next sign-in rehashes
            return user


def password_counter(email: str) -> ThrottleKey:
    """Counts password attempts for an address, whether or not a user has it."""
    return ThrottleKey(f"person/{email_digest(email)}", PASSWORD)


def second_factor_counter(user: User) -> ThrottleKey:
    """Counts attempts at a user's second factor."""
    return ThrottleKey(f"second/{user.subject}", SECOND)


class AccountService:
    """Changes how a user signs in. Methods raise `Unauthenticated` or `TooManyAttempts` for wrong proof, `Conflict` if the record
    changed meanwhile."""

    def __init__(
        self, users: Users, *, passwords: Passwords, second_factor: SecondFactor, sessions: Sessions, sign_in: LoginService
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._second_factor = second_factor
        self._sessions = sessions
        self._sign_in = sign_in

    def change_password(self, session: Session, current: str, new: str, *, address: str) -> str:
        """Everything that was signed in ends; who changes it stays, by the new token returned. `Invalid`: not allowed."""
        user = session.user
        self._sign_in.check_again(user, current, address=address)
        changed = replace(user, password=self._passwords.hash(new, email=user.email), epoch=user.epoch + 1)
        token, put = self._sessions.begin(changed, LoginStage.FULL, methods=session.methods, at=session.at)
        self._users.store(changed, put, Delete(session.key))
        return token

    def propose(self, user: User) -> User:
        """A new secret for an authenticator app; not in use until it is confirmed."""
        _demand_none(user)
        return self._users.store(self._second_factor.proposed(user))

    def confirm(self, user: User, code: str, *, password: str, address: str) -> list[str]:
        """Put the proposed secret to use; the recovery codes, shown this once."""
        _demand_none(user)
        self._sign_in.check_again(user, password, address=address)
        confirmed = self._second_factor.confirmed(user, code)
        if confirmed is None:
            raise Unauthenticated("The code is wrong. Is the time on your phone right?")
        enrolled, codes = confirmed
        self._users.store(enrolled)
        return codes

    def remove(self, user: User, code: str, *, password: str, address: str) -> None:
        """Sign in without a second factor from now on."""
        self._users.store(without_second_factor(self._proven(user, code, password=password, address=address)))

    def renew_recovery(self, user: User, code: str, *, password: str, address: str) -> list[str]:
        """New recovery codes, shown this once; the old ones are void."""
        renewed, codes = self._second_factor.recoverable(self._proven(user, code, password=password, address=address))
        self._users.store(renewed)
        return codes

    def _proven(self, user: User, code: str, *, password: str, address: str) -> User:
        if user.second is None:
            raise Conflict("There is no second factor.")
        self._sign_in.check_again(user, password, address=address)
        return self._sign_in.check_code(user, code, address=address)


def _demand_none(user: User) -> None:
    """Else a new secret could replace the one in use without a code of it."""
    if user.second is not None:
        raise Conflict("The second step is on: turn it off first.")
