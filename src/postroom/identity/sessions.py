"""Who is signed in at the issuer, browser by browser: kept here, the browser holds only a token.

Each step of signing in gives a new token (never one that the browser brought along), so that nobody can plant a session. A
session ends with its time, by signing out, or when the person's epoch has risen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.clock import Clock, Instant
from postroom.identity.opaque import digest, new_token
from postroom.identity.people import People, Person
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables

FULL_S = 12 * 3_600
HALFWAY_S = 600
_PARTITION = "#issuer#sessions"


class Stage(StrEnum):
    """How far somebody has come."""

    HALFWAY = "halfway"
    """The password was right, the second factor is still asked for."""
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's."""

    key: ItemKey
    person: Person
    stage: Stage
    at: Instant
    """When the password was checked."""
    methods: tuple[str, ...]
    """How (RFC 8176): `pwd`, and `otp` with a second factor."""
    version: int


class Sessions:
    """Everybody's."""

    def __init__(self, tables: Tables, clock: Clock, people: People) -> None:
        self._tables = tables
        self._clock = clock
        self._people = people

    def begin(
        self, person: Person, stage: Stage, *, methods: tuple[str, ...] = ("pwd",), at: Instant | None = None
    ) -> tuple[str, Put]:
        """A token for the browser, and the write that makes it good. The epoch is the given person's."""
        now, token = self._clock.now(), new_token(self._clock)
        data = {"subject": person.subject, "epoch": person.epoch, "stage": stage.value, "at": at or now, "methods": list(methods)}
        lasts = FULL_S if stage is Stage.FULL else HALFWAY_S
        return token, Put(_key(token), data, Expect.ABSENT, Instant(now + lasts * 1_000))

    def find(self, token: str | None) -> Session | None:
        """The session, while its person is there, allowed, and has not ended it."""
        item = self._tables.get(_key(token)) if token else None
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


def _key(token: str) -> ItemKey:
    return ItemKey(_PARTITION, digest(token))
