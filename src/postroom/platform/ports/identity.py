"""Identity: who may sign in. Not what they may do: that stands in memberships (ledger.memberships), by issuer and subject.

People are invited, and choose how they prove who they are at the home's own pages. An account is found by its e-mail address, in
any case of its letters, or by its subject, which is opaque, stays the same for ever and is never used for anybody else. How an
invitation reaches its person is the home's matter: it gives a link for us to hand over, or sends a mail itself.

Each call may be repeated: whoever was invited is not entered twice, and what is gone already is harmless to remove.
- **Errors**: `Invalid`: no e-mail address; `NotFound`: nobody has that subject; `Unavailable`: the home does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class AccountStatus(StrEnum):
    """How far somebody is in."""

    INVITED = "invited"
    """Has not set a password yet."""
    ACTIVE = "active"
    DISABLED = "disabled"
    """Cannot sign in until enabled again."""


@dataclass(frozen=True, slots=True)
class UserAccount:
    """Somebody who may sign in."""

    subject: str
    email: str
    status: AccountStatus
    second_factor: bool = False


class Invitation(NamedTuple):
    """Somebody who was asked to set a password."""

    account: UserAccount
    link: str | None
    """Where they set it: for us to hand over. None: the home told them itself, or there is nothing to tell."""


class IdentityProvider(Protocol):
    """See the module's text."""

    @property
    def issuer(self) -> str:
        """What memberships of its people name as issuer."""
        ...

    def invite(self, email: str) -> Invitation:
        """Enter whoever is not there, and let them set a password. Who has one already keeps it: a home that gives
        links gives one by which it may be replaced."""
        ...

    def find(self, who: str) -> UserAccount | None:
        """Whoever has that address or subject; None also for what is neither."""
        ...

    def disable(self, subject: str) -> None:
        """Nobody signs in as them, and what was signed in ends, access tokens within minutes. `NotFound`."""
        ...

    def enable(self, subject: str) -> None:
        """The opposite; they must sign in again. `NotFound`."""
        ...

    def reset_second_factor(self, subject: str) -> None:
        """For somebody who lost it: their password alone is enough until they set up a new one. `NotFound`."""
        ...

    def remove(self, subject: str) -> bool:
        """Forget them; whether there was anybody."""
        ...
