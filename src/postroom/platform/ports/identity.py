"""Identity: the accounts that may sign in. What they may do is in memberships (ledger.memberships), by issuer and subject.

People are invited, and choose how they prove who they are on the backend's own pages. An account is found by its e-mail
address, in any case of its letters, or by its subject, which is opaque, stays the same for ever and is never reused. How an
invitation is delivered depends on the backend: it returns a link for the caller to hand over, or sends a mail itself.

Each call may be repeated: inviting an existing account does not create another, and removing an absent one is harmless.
- **Errors**: `Invalid`: not an e-mail address; `NotFound`: no account has that subject; `Unavailable`: no answer from the
  backend.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from postroom.errors import Invalid

MAX_EMAIL = 254


class AccountStatus(StrEnum):
    """Whether an account can sign in."""

    INVITED = "invited"
    """Has not set a password yet."""
    ACTIVE = "active"
    DISABLED = "disabled"
    """Cannot sign in until enabled again."""


@dataclass(frozen=True, slots=True)
class UserAccount:
    """An account that may sign in."""

    subject: str
    email: str
    status: AccountStatus
    second_factor: bool = False


class Invitation(NamedTuple):
    """The result of an invitation."""

    account: UserAccount
    link: str | None
    """Page on which the person sets a password, for the caller to hand over. None if the backend sent a mail, or no mail is
    needed."""


class IdentityProvider(Protocol):
    """The accounts of an installation."""

    @property
    def issuer(self) -> str:
        """The issuer in memberships of these accounts."""
        ...

    def invite(self, email: str) -> Invitation:
        """Create the account if it is absent, and let the person set a password. An existing password stays; a backend that
        returns links returns one that can replace it."""
        ...

    def find(self, who: str) -> UserAccount | None:
        """The account with that address or subject, or None."""
        ...

    def disable(self, subject: str) -> None:
        """Refuse sign-in and end all sessions; access tokens expire within minutes. Raises `NotFound`."""
        ...

    def enable(self, subject: str) -> None:
        """Allow sign-in again. Sessions do not come back. Raises `NotFound`."""
        ...

    def reset_second_factor(self, subject: str) -> None:
        """Remove a lost second factor: the password alone is enough until a new one is set up. Raises `NotFound`."""
        ...

    def remove(self, subject: str) -> bool:
        """Delete the account. Returns whether it existed."""
        ...


def normalized_email(email: str) -> str:
    """An address as a sign-in name: trimmed, in Unicode normal form NFC. Does not check that mail arrives there. Raises
    `Invalid`."""
    text = unicodedata.normalize("NFC", email.strip())
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or len(text) > MAX_EMAIL or not all(_printable(letter) for letter in text):
        raise Invalid(f"{text[:80]!r} is no e-mail address")
    return text


def _printable(letter: str) -> bool:
    return letter.isprintable() and not letter.isspace()
