"""Credentials: opaque tokens, passwords and second factors.

- **Tokens** have 256 random bits, so a plain SHA-256 digest is safe to store, and looking one up by digest leaks no timing.
- **Passwords** (NIST SP 800-63B): length and a denied list, no composition rules. Hashes are argon2id with 32 MiB (OWASP: at
  least 19 MiB). A process makes four at once; eight more wait, and others get `Unavailable`, so that a flood of sign-ins
  exhausts neither memory nor threads. Verifying takes as long if there is no user or no password.
- **Second factors**: TOTP (RFC 6238), accepted for the current step and one either side, and once: the last accepted step is
  in the user's record, and accepting is one conditional write on it. Secrets are sealed and bound to the user; recovery codes
  (80 random bits) are stored as digests and removed when used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from postroom.clock import Clock, Instant
from postroom.errors import Invalid, Unavailable
from postroom.identity.users import User
from postroom.platform.ports.secrets import Secrets

_BYTES = 32


def new_token(clock: Clock) -> str:
    """43 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(clock.random(_BYTES)).decode().rstrip("=")


def digest(token: str) -> str:
    """What is stored; takes any text."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


MIN_LENGTH, MAX_LENGTH = 12, 256
_AT_ONCE, _WAITING = 4, 8
_LONGEST_TYPED = 4 * MAX_LENGTH
"""Before it is composed."""
_LEAST_LOCAL_PART = 4
"""Shorter local parts occur in too many good passwords by chance."""
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
        """Call before serving: the first attempt for an unknown user then takes no longer than others."""
        _ = self._decoy

    @cached_property
    def _decoy(self) -> str:
        """A hash to verify against if there is no user."""
        return self._hasher.hash(self._clock.random(16))

    def hash(self, password: str, *, email: str) -> str:
        """Check the rules, then hash. `Invalid` says which rule."""
        text = _normalised(password)
        check_rules(text, email)
        with self._slot():
            return self._hasher.hash(text)

    def matches(self, user: User | None, password: str) -> bool:
        """Whether it is the user's password. Takes as long if there is no user or no password."""
        known = user.password if user is not None else None
        with self._slot():
            try:
                right = self._hasher.verify(known or self._decoy, _normalised(password[:_LONGEST_TYPED]))
            except (VerificationError, InvalidHashError):
                return False
        return right and known is not None

    def outdated(self, user: User) -> bool:
        """Whether the hash was made with other costs than today's."""
        return user.password is not None and self._hasher.check_needs_rehash(user.password)

    def rehash(self, password: str) -> str:
        """Of a password that was just right: its rules are not asked again."""
        with self._slot():
            return self._hasher.hash(_normalised(password))


def check_rules(password: str, email: str) -> None:
    """Raises `Invalid`, whose text tells the user which rule failed."""
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


RECOVERY_CODES = 10
_STEP_MS = 30_000
_SECRET_BYTES = 20  # RFC 4226 §4: 160 bits
_RECOVERY_BYTES = 10


class SecondFactor:
    """Works on a user record without storing it: the caller stores the returned record."""

    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock

    def proposed(self, user: User) -> User:
        """With a new secret to enrol; the factor in use stays until a code of the new one is shown."""
        secret = base64.b32encode(self._clock.random(_SECRET_BYTES))
        return replace(user, proposed=self._secrets.seal(_purpose(user), secret))

    def proposal(self, user: User) -> str | None:
        """The secret being enrolled, in base32, or None."""
        return None if user.proposed is None else self._opened(user, user.proposed)

    def confirmed(self, user: User, code: str) -> tuple[User, list[str]] | None:
        """Enrolled, with new recovery codes (shown once); None: the code is wrong."""
        secret = self.proposal(user)
        step = None if secret is None else self._step(secret, code, after=user.step)
        if step is None:
            return None
        return self.recoverable(replace(user, second=user.proposed, proposed=None, step=step))

    def recoverable(self, user: User) -> tuple[User, list[str]]:
        """With new recovery codes; the old ones are void."""
        codes = [_grouped(self._clock.random(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]
        return replace(user, recovery=tuple(digest(_plain(code)) for code in codes)), codes

    def taken(self, user: User, code: str) -> User | None:
        """With the code used up, be it the app's or for recovery; None: it is neither. Sealed anew under a new master key."""
        if user.second is None:
            return None
        secret = self._opened(user, user.second)
        step = self._step(secret, code, after=user.step)
        if step is not None:
            return replace(user, step=step, second=self._fresh(user, user.second))
        used = digest(_plain(code))
        if not any(hmac.compare_digest(used, left) for left in user.recovery):
            return None
        return replace(user, recovery=tuple(left for left in user.recovery if left != used))

    def is_current(self, user: User) -> bool:
        """Whether the newest master key sealed what there is."""
        return all(sealed is None or self._secrets.is_current(sealed) for sealed in (user.second, user.proposed))

    def resealed(self, user: User) -> User:
        """Under the newest master key. `Corrupt`: cannot be opened."""
        second, proposed = (None if kept is None else self._fresh(user, kept) for kept in (user.second, user.proposed))
        return replace(user, second=second, proposed=proposed)

    def _step(self, secret: str, code: str, *, after: int) -> int | None:
        """The step that the code belongs to; None: to none that may still be used."""
        now, given = self._clock.now() // _STEP_MS, "".join(code.split())
        near = [step for step in (now - 1, now, now + 1) if step > after]
        return next((step for step in near if _same(code_at(secret, Instant(step * _STEP_MS)), given)), None)

    def _opened(self, user: User, sealed: str) -> str:
        return self._secrets.open(_purpose(user), sealed).decode()

    def _fresh(self, user: User, sealed: str) -> str:
        if self._secrets.is_current(sealed):
            return sealed
        return self._secrets.seal(_purpose(user), self._secrets.open(_purpose(user), sealed))


def code_at(secret: str, at: Instant) -> str:
    """What an authenticator app shows at that time."""
    return pyotp.TOTP(secret).generate_otp(at // _STEP_MS)


def enrolment_uri(secret: str, email: str, *, name: str) -> str:
    """What the QR code says (the key URI format that authenticator apps read)."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=name)


def _same(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode(errors="replace"))


def _grouped(chance: bytes) -> str:
    text = base64.b32encode(chance).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _plain(code: str) -> str:
    return "".join(letter for letter in code.lower() if letter.isalnum())


def _purpose(user: User) -> str:
    return f"issuer/second-factor/{user.subject}"
