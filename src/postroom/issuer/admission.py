"""Letting people and programs in and out: who they are (the directory, the clients), and what they may do (memberships).

These are two stores' records, so the order counts. In: first the person or client, who may do nothing yet, then the
membership. Out: first the membership, which ends all rights within seconds, then the rest. A crash in between leaves somebody
who may do nothing; doing it again completes it.
"""

from __future__ import annotations

from typing import NamedTuple

from postroom.errors import Conflict, NotFound
from postroom.issuer.clients import Client, Registered
from postroom.issuer.issuer import Issuer
from postroom.issuer.people import Person
from postroom.ledger.access import Memberships
from postroom.model.access import Membership, Role


class Admitted(NamedTuple):
    """Somebody new, and the link by which they set their password."""

    person: Person
    link: str


class Admission:
    """For the operators of the machine: nobody's own role is asked."""

    def __init__(self, issuer: Issuer, memberships: Memberships) -> None:
        self._issuer = issuer
        self._memberships = memberships

    def add(self, email: str, *, tenant: str, role: Role, operator: bool = False) -> Admitted:
        """Let a person in. `Invalid`: no address; `Conflict`: they belong to a tenant already."""
        person = self._issuer.people.by_email(email) or self._issuer.people.create(email)
        if self.membership(person.subject) is not None:
            raise Conflict(f"{person.email} is in already: `postroom user role` changes what they may do, `invite` makes a link")
        url = self._issuer.membership_issuer
        self._memberships.add(Membership(url, person.subject, tenant, role, person.email, operator=operator))
        return Admitted(person, self._issuer.invitations.invite(person))

    def invite(self, email: str) -> str:
        """A one-time link by which the person sets a password. `NotFound`."""
        return self._issuer.invitations.invite(self.person(email))

    def person(self, email: str) -> Person:
        """Whoever has the address, or that subject; `NotFound`."""
        person = self._issuer.people.by_email(email) or self._issuer.people.find(email)
        if person is None:
            raise NotFound(f"there is nobody called {email!r}; `postroom user list` shows who there is")
        return person

    def membership(self, subject: str) -> Membership | None:
        """What the person or client may do, or None."""
        return self._memberships.find(self._issuer.membership_issuer, subject)

    def remove(self, email: str) -> None:
        """Forget a person. `NotFound`."""
        person = self.person(email)
        self._memberships.revoke(self._issuer.membership_issuer, person.subject)
        self._issuer.people.delete(person.subject)

    def add_client(self, name: str, *, tenant: str, role: Role) -> Registered:
        """Let a program in; its secret is shown this once. `Invalid`: no usable name."""
        registered = self._issuer.clients.create(tenant, name=name)
        issuer, client = self._issuer.membership_issuer, registered.client
        self._memberships.add(Membership(issuer, client.id, tenant, role, client.name))
        return registered

    def clients(self, tenant: str) -> list[tuple[Client, Membership | None]]:
        """All programs of a tenant, with what each may do."""
        found: list[tuple[Client, Membership | None]] = []
        cursor: str | None = None
        while True:
            page = self._issuer.clients.list(tenant, cursor=cursor)
            found += [(client, self.membership(client.id)) for client in page.clients]
            cursor = page.cursor
            if cursor is None:
                return found

    def revoke_client(self, id: str) -> bool:  # noqa: A002
        """End a program; whether anything of it was there."""
        ended = self._memberships.revoke(self._issuer.membership_issuer, id)
        return self._issuer.clients.revoke(id) or ended
