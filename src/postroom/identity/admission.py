"""Letting programs in and out beside people (services.admission): who they are (the clients), and what they may do (memberships).

The order is the same: in, first the client, which may do nothing yet; out, first the membership.
"""

from __future__ import annotations

from postroom.identity.clients import Client, Registered
from postroom.identity.directory import Directory
from postroom.identity.issuer import Issuer
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role
from postroom.services import users


class Admission(users.UserService):
    """Of people and programs, at the built-in issuer."""

    def __init__(self, issuer: Issuer, memberships: Memberships) -> None:
        super().__init__(Directory(issuer), memberships)
        self._issuer = issuer

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
