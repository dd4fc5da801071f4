"""Administration of the built-in provider's users and clients.

`UserDirectory` implements `ports.identity`. `AccessAdmin` adds clients: a client is created before its membership and loses its
membership first, so a crash in between leaves a client without rights. `first_invitation` returns the link with which the first
administrator sets a password.
"""

from __future__ import annotations

import re

from postroom.errors import Conflict, NotFound
from postroom.identity.oauth import OAuthClient, RegisteredClient
from postroom.identity.provider import OpenIdProvider
from postroom.identity.users import User
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.identity import AccountStatus, Invitation, UserAccount
from postroom.services import users

_SUBJECT = re.compile(r"[a-z0-9]{1,40}")


class UserDirectory:
    """`ports.identity` over the built-in provider."""

    def __init__(self, issuer: OpenIdProvider) -> None:
        self._provider = issuer
        self._users = issuer.users

    @property
    def issuer(self) -> str:
        return self._provider.membership_issuer

    def invite(self, email: str) -> Invitation:
        user = self._users.by_email(email) or self._users.create(email)
        return Invitation(_account(user), self._provider.invitations.invite(user))

    def find(self, who: str) -> UserAccount | None:
        user = self._users.by_email(who) or (self._users.find(who) if _SUBJECT.fullmatch(who) else None)
        return None if user is None else _account(user)

    def disable(self, subject: str) -> None:
        self._users.disable(_checked(subject))

    def enable(self, subject: str) -> None:
        self._users.enable(_checked(subject))

    def reset_second_factor(self, subject: str) -> None:
        self._users.reset_second_factor(_checked(subject))

    def remove(self, subject: str) -> bool:
        return bool(_SUBJECT.fullmatch(subject)) and self._users.delete(subject)


def _checked(subject: str) -> str:
    """Raises `NotFound` if the text cannot be a subject."""
    if not _SUBJECT.fullmatch(subject):
        raise NotFound(f"there is no user {subject[:80]!r}")
    return subject


def _account(user: User) -> UserAccount:
    return UserAccount(user.subject, user.email, _state(user), second_factor=user.second is not None)


def _state(user: User) -> AccountStatus:
    if user.disabled:
        return AccountStatus.DISABLED
    return AccountStatus.INVITED if user.password is None else AccountStatus.ACTIVE


class AccessAdmin(users.UserService):
    """Users and clients of the built-in provider, with their memberships."""

    def __init__(self, issuer: OpenIdProvider, memberships: Memberships) -> None:
        super().__init__(UserDirectory(issuer), memberships)
        self._provider = issuer

    def add_client(self, name: str, *, tenant: str, role: Role) -> RegisteredClient:
        """Add a client with its membership. Its secret cannot be read again. Raises `Invalid` if the name is not usable."""
        registered = self._provider.clients.create(tenant, name=name)
        issuer, client = self._provider.membership_issuer, registered.client
        self._memberships.add(Membership(issuer, client.id, tenant, role, client.name))
        return registered

    def clients(self, tenant: str) -> list[tuple[OAuthClient, Membership | None]]:
        """All clients of a tenant, with their memberships."""
        return [(client, self.membership(client.id)) for client in self._provider.clients.iterate(tenant)]

    def revoke_client(self, id: str) -> bool:  # noqa: A002
        """Remove a client and its membership. Returns whether either existed."""
        ended = self._memberships.revoke(self._provider.membership_issuer, id)
        return self._provider.clients.revoke(id) or ended


FIRST_ADMIN = "admin@localhost"


def first_invitation(issuer: OpenIdProvider, memberships: Memberships) -> str | None:
    """A link for the first administrator, who is also an operator; None if any user has a password.

    After a crash, or a day without use, returns another link for the same user. A role given to that user since stays.
    """
    if any(user.password is not None for user in issuer.users.iterate()):
        return None
    user = issuer.users.by_email(FIRST_ADMIN) or _created_admin(issuer)
    membership = Membership(issuer.membership_issuer, user.subject, DEFAULT_TENANT, Role.ADMIN, FIRST_ADMIN, operator=True)
    if memberships.find(issuer.membership_issuer, user.subject) is None:
        memberships.grant(membership)
    return issuer.invitations.invite(user)


def _created_admin(issuer: OpenIdProvider) -> User:
    try:
        return issuer.users.create(FIRST_ADMIN)
    except Conflict:  # another process starts at this moment
        known = issuer.users.by_email(FIRST_ADMIN)
        if known is None:
            raise
        return known
