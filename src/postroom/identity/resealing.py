"""After the master key was changed: second factors and signing keys are sealed again, beside those who use them."""

from __future__ import annotations

from collections.abc import Iterator

from postroom.errors import Conflict, Corrupt, NotFound
from postroom.identity.keys import Keys
from postroom.identity.people import People, Person
from postroom.identity.second_factor import SecondFactor


def reseal(people: People, second_factor: SecondFactor, keys: Keys) -> tuple[int, int]:
    """How many were sealed again, and how many could not be opened. Again: harmless, and goes on where it was killed."""
    done, left = keys.reseal()
    for person in _everybody(people):
        if second_factor.is_current(person):
            continue
        try:
            people.update(person.subject, second_factor.resealed)
        except NotFound:  # removed since
            continue
        except (Corrupt, Conflict):
            left += 1
        else:
            done += 1
    return done, left


def _everybody(people: People) -> Iterator[Person]:
    cursor: str | None = None
    while True:
        page = people.list(cursor=cursor, limit=1_000)
        yield from page.people
        cursor = page.cursor
        if cursor is None:
            return
