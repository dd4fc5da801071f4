"""The directory of people: one record a person, found by an opaque subject or by e-mail address.

A person's record and the entry of the address are written together, so that a crash leaves both or neither, and two who
enter the same address have one winner. `epoch` rises whenever all that was signed in before must end (a new password, an
account switched off, "sign out everywhere"): sessions, refresh tokens and invitations carry the epoch they began in, and
nobody has to list them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.model import ids
from postroom.platform.ports.identity import normalized_email
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

_PEOPLE, _EMAILS = "#issuer#people", "#issuer#emails"
_SUBJECT_LENGTH = 20
_NO_USER = "-"
"""Looked up in the place of a person who is not there: the answer takes as long."""
_RETRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who can sign in, once there is a password."""

    subject: str
    """Opaque, never used again for anybody else."""
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
    """The last step of the second factor whose code was taken: none up to it is taken again."""
    recovery: tuple[str, ...] = field(default=(), repr=False)
    """Digests of the recovery codes that are left."""
    version: int = 0


class UserPage(NamedTuple):
    """Part of the directory, in the order of subjects: no order people know. `cursor` asks for the next part."""

    users: list[User]
    cursor: str | None


class Users:
    """Everybody."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def create(self, email: str, *, password: str | None = None) -> User:
        """Enter somebody; `password` is a hash. `Invalid`: no address; `Conflict`: somebody has it."""
        user = User(
            subject=ids.encode(int.from_bytes(self._clock.random(13), "big") >> 4, _SUBJECT_LENGTH),
            email=normalized_email(email),
            created_at=self._clock.now(),
            password=password,
        )
        entry = Put(_email_key(user.email), {"subject": user.subject}, Expect.ABSENT)
        try:
            self._tables.write([entry, _put(user, Expect.ABSENT)])
        except Conflict as conflict:
            raise Conflict(f"{user.email} is in the directory already") from conflict
        return replace(user, version=1)

    def find(self, subject: str) -> User | None:
        """The person, or None."""
        item = self._tables.get(ItemKey(_PEOPLE, subject))
        return None if item is None else _user_from(item)

    def get(self, subject: str) -> User:
        """The person; `NotFound`."""
        user = self.find(subject)
        if user is None:
            raise NotFound(f"there is no person {subject}")
        return user

    def by_email(self, email: str) -> User | None:
        """Whoever has the address, in any case of its letters; None for what is no address too."""
        try:
            item = self._tables.get(_email_key(normalized_email(email)))
        except Invalid:
            return None
        return self.find(_NO_USER if item is None else item.data["subject"])

    def list(self, *, cursor: str | None = None, limit: int = 100) -> UserPage:
        """Everybody; `limit` 1 to 1,000."""
        page = self._tables.query(_PEOPLE, cursor=cursor, limit=limit)
        return UserPage([_user_from(item) for item in page.items], page.cursor)

    def store(self, user: User, *also: Write) -> User:
        """Replace the record as it was read, together with other writes. `Conflict`: somebody changed one of them since."""
        version, *_ = self._tables.write([_put(user, user.version), *also])
        return replace(user, version=version)

    def update(self, subject: str, change: Callable[[User], User]) -> User:
        """Read, change, store; again where somebody else was faster. `NotFound`."""
        for _ in range(_RETRIES):
            try:
                return self.store(change(self.get(subject)))
            except Conflict:
                continue
        raise Conflict("this person's record is being changed by others all the time; try again")

    def disable(self, subject: str) -> User:
        """Nobody signs in as this person, and what was signed in ends. `NotFound`."""
        return self.update(subject, lambda user: replace(user, disabled=True, epoch=user.epoch + 1))

    def enable(self, subject: str) -> User:
        """The opposite; they must sign in again. `NotFound`."""
        return self.update(subject, lambda user: replace(user, disabled=False))

    def sign_out(self, subject: str) -> User:
        """End every session and every refresh token. Access tokens run out by themselves. `NotFound`."""
        return self.update(subject, lambda user: replace(user, epoch=user.epoch + 1))

    def reset_second_factor(self, subject: str) -> User:
        """For somebody who lost it. `NotFound`."""
        return self.update(subject, without_second_factor)

    def delete(self, subject: str) -> bool:
        """Forget a person; whether there was one. What they signed in ends with the record."""
        user = self.find(subject)
        if user is None:
            return False
        self._tables.write([Delete(ItemKey(_PEOPLE, subject)), Delete(_email_key(user.email))])
        return True


def without_second_factor(user: User) -> User:
    """The last step stays: a code that was taken is not taken again by the next enrolment."""
    return replace(user, second=None, proposed=None, recovery=())


def email_digest(email: str) -> str:
    """Stands for an address in keys, whether anybody has it or not: of fixed length, whatever was typed."""
    return sha256(unicodedata.normalize("NFC", email.strip()).casefold().encode(errors="surrogatepass")).hexdigest()


def _email_key(email: str) -> ItemKey:
    return ItemKey(_EMAILS, email_digest(email))


def _put(user: User, expect: Expect | int) -> Put:
    data: dict[str, Any] = msgspec.to_builtins(user)
    del data["version"]
    return Put(ItemKey(_PEOPLE, user.subject), data, expect)


def _user_from(item: Item) -> User:
    try:
        return msgspec.convert({**item.data, "version": item.version}, User)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of person {item.key.sort} cannot be read: {error}") from error
