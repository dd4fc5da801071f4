"""Passwords: which are allowed (NIST SP 800-63B: by length and a denied list, no rules of composition), and their hashes.

argon2id at 32 MiB a hash (OWASP asks for 19 MiB or more); at most four are made at once in a process, so that a flood of
sign-ins costs time and not memory. A few more wait, each in a thread that all of the door shares; the rest is `Unavailable`, at
once, so that the flood ends at the sign-in page. Checking a password that cannot be right (nobody of that name, none set) takes
the same work as one that can.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from postroom.clock import Clock
from postroom.errors import Invalid, Unavailable
from postroom.identity.users import User

MIN_LENGTH, MAX_LENGTH = 12, 256
_AT_ONCE, _WAITING = 4, 8
_LONGEST_TYPED = 4 * MAX_LENGTH
"""Before it is composed."""
_LEAST_LOCAL_PART = 4
"""A shorter local part stands in too many good passwords by chance."""
_LEAST_DISTINCT = 5
_LEET = str.maketrans("01345789@$!", "oieastbgasi")
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")


class Passwords:
    """Makes and checks hashes. `hasher`: cheaper ones, for tests."""

    def __init__(self, clock: Clock, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._room = threading.BoundedSemaphore(_AT_ONCE + _WAITING)
        self._clock = clock

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Around the making of a hash. `Unavailable`: too many are wanted."""
        if not self._room.acquire(blocking=False):
            raise Unavailable("too many passwords are being checked")
        try:
            with self._slots:
                yield
        finally:
            self._room.release()

    def prepare(self) -> None:
        """Before the door opens, so that the first try at nobody's password takes no longer than the others."""
        _ = self._nobodys

    @cached_property
    def _nobodys(self) -> str:
        """What the password of nobody is held against."""
        return self._hasher.hash(self._clock.random(16))

    def hash(self, password: str, *, email: str) -> str:
        """Check the rules, then hash. `Invalid` says which rule."""
        text = _normalised(password)
        check_rules(text, email)
        with self._slot():
            return self._hasher.hash(text)

    def matches(self, person: User | None, password: str) -> bool:
        """Whether it is this person's; as slow for nobody."""
        known = person.password if person is not None else None
        with self._slot():
            try:
                right = self._hasher.verify(known or self._nobodys, _normalised(password[:_LONGEST_TYPED]))
            except (VerificationError, InvalidHashError):
                return False
        return right and known is not None

    def outdated(self, person: User) -> bool:
        """Whether the hash was made with other costs than today's."""
        return person.password is not None and self._hasher.check_needs_rehash(person.password)

    def rehash(self, password: str) -> str:
        """Of a password that was just right: its rules are not asked again."""
        with self._slot():
            return self._hasher.hash(_normalised(password))


def check_rules(password: str, email: str) -> None:
    """`Invalid` says what is wrong, for the person who chooses."""
    if len(password) < MIN_LENGTH:
        raise Invalid(f"The password is too short: at least {MIN_LENGTH} characters. A few words in a row are fine.")
    if len(password) > MAX_LENGTH:
        raise Invalid(f"The password is too long: at most {MAX_LENGTH} characters.")
    text = password.casefold()
    local = email.partition("@")[0].casefold()
    if len(local) >= _LEAST_LOCAL_PART and local in text:
        raise Invalid("The password contains the name in your e-mail address: choose another.")
    if len(set(text)) < _LEAST_DISTINCT or _in_sequence(text):
        raise Invalid("The password is a sequence or a repetition: choose another.")
    if _is_common(text):
        raise Invalid("The password is among the first that are guessed: choose another.")


def _normalised(password: str) -> str:
    """One text for what different keyboards send (SP 800-63B §3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.encode(errors="replace").decode())


def _in_sequence(text: str) -> bool:
    """Whether nearly every character follows from the one before: abcdefghijkl, 123456123456, qwertyuiopas."""
    follows = sum(_follows(first, second) for first, second in pairwise(text))
    return follows >= (len(text) - 1) * 3 // 4


def _follows(first: str, second: str) -> bool:
    near = abs(ord(first) - ord(second)) <= 1
    return near or any(first + second in row or second + first in row for row in _ROWS)


def _is_common(text: str) -> bool:
    """Whether it is on the list, or only words of the list: as written, in figures for letters, with other marks around them."""
    whole, words = _lists()
    letters = re.sub(r"[^a-z]", "", text)
    read = re.sub(r"[^a-z]", "", text.strip("0123456789!?.,#*-_+ ").translate(_LEET))
    return text in whole or any(_made_of(form, words) for form in (letters, read) if form)


def _made_of(text: str, words: frozenset[str]) -> bool:
    """Whether `text` is nothing but one of the words, once or repeated."""
    return any(not text.replace(word, "") for word in words if word in text)


@cache
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    """Whole passwords, and words (in lines of `word:`)."""
    lines = (Path(__file__).parent / "denied_passwords.txt").read_text("utf-8").split("\n")
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
    words = frozenset(entry.removeprefix("word:") for entry in entries if entry.startswith("word:"))
    return frozenset(entries) - words, words
