"""The user directory: one record per user, found by subject or by e-mail address.

A record and its address entry are written atomically: a crash leaves both or neither, and of two users added with one address one
wins. `epoch` rises when everything signed in must end (new password, disabled account, "sign out everywhere"): sessions, refresh
tokens and invitations carry the epoch they began in, so they need not be listed to be ended.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Invalid
from postroom.ledger.collection import VERSION, Collection, ListPage
from postroom.model import ids
from postroom.platform.ports.identity import normalized_email
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables, Write

_PEOPLE, _EMAILS = "#issuer#people", "#issuer#emails"
_SUBJECT_LENGTH = 20
_NO_USER = "-"
"""Looked up if no user has an address, so that the response takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user; can sign in once a password is set."""

    subject: str
    """Opaque; never reused."""
    email: str
    created_at: Instant
    password: str | None = field(default=None, repr=False)
    """An argon2id hash; None: not set yet."""
    disabled: bool = False
    epoch: int = 1
    second: str | None = field(default=None, repr=False)
    """The secret of the second factor (TOTP), sealed; None: not enrolled."""
    proposed: str | None = field(default=None, repr=False)
    """A secret that is being enrolled, sealed."""
    step: int = 0
    """Time step of the last accepted TOTP code; codes up to it are refused (RFC 6238 5.2)."""
    recovery: tuple[str, ...] = field(default=(), repr=False)
    """Digests of the unused recovery codes."""
    version: int = 0


class Users:
    """Repository of users."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, User, "user", derived=VERSION)

    def create(self, email: str, *, password: str | None = None) -> User:
        """Add a user. `password`: a hash. Raises `Invalid` if `email` is no address, `Conflict` if another user has it."""
        user = User(
            subject=ids.encode(int.from_bytes(self._clock.random(13), "big") >> 4, _SUBJECT_LENGTH),
            email=normalized_email(email),
            created_at=self._clock.now(),
            password=password,
        )
        entry = Put(_email_key(user.email), {"subject": user.subject}, Expect.ABSENT)
        try:
            return self._records.create(_key(user.subject), user, also=[entry])
        except Conflict as conflict:
            raise Conflict(f"{user.email} is in the directory already") from conflict

    def find(self, subject: str) -> User | None:
        """The user, or None."""
        return self._records.find(_key(subject))

    def get(self, subject: str) -> User:
        """The user. Raises `NotFound`."""
        return self._records.get(_key(subject))

    def by_email(self, email: str) -> User | None:
        """The user with that address, ignoring case. None if there is none, or if it is not an address."""
        try:
            item = self._tables.get(_email_key(normalized_email(email)))
        except Invalid:
            return None
        return self.find(_NO_USER if item is None else item.data["subject"])

    def list(self, *, cursor: str | None = None, limit: int = 100) -> ListPage[User]:
        """Part of all users, by subject. `limit`: 1 to 1,000."""
        return self._records.page(_PEOPLE, cursor=cursor, limit=limit)

    def iterate(self) -> Iterator[User]:
        """All users, by subject."""
        return self._records.iterate(_PEOPLE)

    def store(self, user: User, *also: Write) -> User:
        """Replace a record atomically with the writes `also`. Raises `Conflict` if the record changed since it was read."""
        return self._records.put(_key(user.subject), user, user.version, also=also)

    def update(self, subject: str, change: Callable[[User], User]) -> User:
        """Read, change and store a record, retrying lost races. Raises `NotFound`."""
        return self._records.update(_key(subject), change)

    def disable(self, subject: str) -> User:
        """Refuse sign-in and end sessions and refresh tokens. Raises `NotFound`."""
        return self.update(subject, lambda user: replace(user, disabled=True, epoch=user.epoch + 1))

    def enable(self, subject: str) -> User:
        """Allow sign-in again; ended sessions do not come back. Raises `NotFound`."""
        return self.update(subject, lambda user: replace(user, disabled=False))

    def sign_out(self, subject: str) -> User:
        """End all sessions and refresh tokens; access tokens expire. Raises `NotFound`."""
        return self.update(subject, lambda user: replace(user, epoch=user.epoch + 1))

    def reset_second_factor(self, subject: str) -> User:
        """Remove a lost second factor. Raises `NotFound`."""
        return self.update(subject, without_second_factor)

    def delete(self, subject: str) -> bool:
        """Delete a user, which ends sessions and tokens. Returns whether the user existed."""
        user = self.find(subject)
        if user is None:
            return False
        self._records.delete(_key(subject), also=[Delete(_email_key(user.email))])
        return True


def without_second_factor(user: User) -> User:
    """The record without second factor. Keeps `step`, so that an accepted code is not accepted again after a new enrolment."""
    return replace(user, second=None, proposed=None, recovery=())


def email_digest(email: str) -> str:
    """Key of an address, of fixed length, whether or not a user has it."""
    return sha256(unicodedata.normalize("NFC", email.strip()).casefold().encode(errors="surrogatepass")).hexdigest()


def _email_key(email: str) -> ItemKey:
    return ItemKey(_EMAILS, email_digest(email))


def _key(subject: str) -> ItemKey:
    return ItemKey(_PEOPLE, subject)
