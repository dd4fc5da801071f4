"""Letting people in and out: who they are (ports.identity), and what they may do (memberships).

These are two stores' records, so the order counts. In: first the account, which may do nothing yet, then the membership. Out:
first the membership, which ends all rights within seconds, then the account. A crash in between leaves somebody who may do
nothing; doing it again completes it.
"""

from __future__ import annotations

from typing import NamedTuple

from postroom.errors import Conflict, NotFound
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role
from postroom.platform.ports.identity import IdentityProvider, UserAccount


class Admitted(NamedTuple):
    """Somebody new, and the link by which they set their password; None: the home told them itself."""

    person: UserAccount
    link: str | None


class Admission:
    """For the operators of the installation: nobody's own role is asked."""

    def __init__(self, identity: IdentityProvider, memberships: Memberships) -> None:
        self._identity = identity
        self._memberships = memberships

    def add(self, email: str, *, tenant: str, role: Role, operator: bool = False) -> Admitted:
        """Let a person in. `Invalid`: no address; `Conflict`: they belong to a tenant already."""
        known = self._identity.find(email)
        if known is not None and self.membership(known.subject) is not None:
            raise Conflict(f"{known.email} is in already: `postroom user role` changes what they may do, `invite` makes a link")
        person, link = self._identity.invite(email)
        self._memberships.add(Membership(self._identity.issuer, person.subject, tenant, role, person.email, operator=operator))
        return Admitted(person, link)

    def invite(self, who: str) -> Admitted:
        """Let somebody who is there set a password. `NotFound`."""
        return Admitted(*self._identity.invite(self.person(who).email))

    def person(self, who: str) -> UserAccount:
        """Whoever has the address, or that subject; `NotFound`."""
        person = self._identity.find(who)
        if person is None:
            raise NotFound(f"there is nobody called {who!r}; `postroom user list` shows who there is")
        return person

    def membership(self, subject: str) -> Membership | None:
        """What the person may do, or None."""
        return self._memberships.find(self._identity.issuer, subject)

    def remove(self, who: str) -> None:
        """Forget a person. `NotFound`."""
        person = self.person(who)
        self._memberships.revoke(self._identity.issuer, person.subject)
        self._identity.remove(person.subject)
