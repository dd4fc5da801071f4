"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for when the phone is gone.

A code is good for its own half minute and the ones beside it, and once: the step of the last one taken stands in the
person's record, and taking a code is one conditional write on that record. So of two who use the same code at the same
moment, one wins. Secrets are stored sealed, bound to the person; recovery codes (80 bits of chance) as digests, each
removed when it is used.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pyotp

from postroom.clock import Clock, Instant
from postroom.identity.random_tokens import digest
from postroom.identity.users import User
from postroom.platform.ports.secrets import Secrets

RECOVERY_CODES = 10
_STEP_MS = 30_000
_SECRET_BYTES = 20  # RFC 4226 §4: 160 bits
_RECOVERY_BYTES = 10


class SecondFactor:
    """Answers for a person's record; the caller stores what it returns."""

    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock

    def proposed(self, person: User) -> User:
        """With a new secret to enrol; the factor in use stays until a code of the new one is shown."""
        secret = base64.b32encode(self._clock.random(_SECRET_BYTES))
        return replace(person, proposed=self._secrets.seal(_purpose(person), secret))

    def proposal(self, person: User) -> str | None:
        """The secret being enrolled, in base32, or None."""
        return None if person.proposed is None else self._opened(person, person.proposed)

    def confirmed(self, person: User, code: str) -> tuple[User, list[str]] | None:
        """Enrolled, with new recovery codes (shown once); None: the code is wrong."""
        secret = self.proposal(person)
        step = None if secret is None else self._step(secret, code, after=person.step)
        if step is None:
            return None
        return self.recoverable(replace(person, second=person.proposed, proposed=None, step=step))

    def recoverable(self, person: User) -> tuple[User, list[str]]:
        """With new recovery codes; the old ones are void."""
        codes = [_grouped(self._clock.random(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]
        return replace(person, recovery=tuple(digest(_plain(code)) for code in codes)), codes

    def taken(self, person: User, code: str) -> User | None:
        """With the code used up, be it the app's or for recovery; None: it is neither. Sealed anew under a new master key."""
        if person.second is None:
            return None
        secret = self._opened(person, person.second)
        step = self._step(secret, code, after=person.step)
        if step is not None:
            return replace(person, step=step, second=self._fresh(person, person.second))
        used = digest(_plain(code))
        if not any(hmac.compare_digest(used, left) for left in person.recovery):
            return None
        return replace(person, recovery=tuple(left for left in person.recovery if left != used))

    def is_current(self, person: User) -> bool:
        """Whether the newest master key sealed what there is."""
        return all(sealed is None or self._secrets.is_current(sealed) for sealed in (person.second, person.proposed))

    def resealed(self, person: User) -> User:
        """Under the newest master key. `Corrupt`: cannot be opened."""
        second, proposed = (None if kept is None else self._fresh(person, kept) for kept in (person.second, person.proposed))
        return replace(person, second=second, proposed=proposed)

    def _step(self, secret: str, code: str, *, after: int) -> int | None:
        """The step that the code belongs to; None: to none that may still be used."""
        now, given = self._clock.now() // _STEP_MS, "".join(code.split())
        near = [step for step in (now - 1, now, now + 1) if step > after]
        return next((step for step in near if _same(code_at(secret, Instant(step * _STEP_MS)), given)), None)

    def _opened(self, person: User, sealed: str) -> str:
        return self._secrets.open(_purpose(person), sealed).decode()

    def _fresh(self, person: User, sealed: str) -> str:
        if self._secrets.is_current(sealed):
            return sealed
        return self._secrets.seal(_purpose(person), self._secrets.open(_purpose(person), sealed))


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


def _purpose(person: User) -> str:
    return f"issuer/second-factor/{person.subject}"
