"""Identity (platform.ports.identity) at the built-in issuer: its directory of people, and links for us to hand over.

Letting programs in and out beside people (services.users): who they are (the clients), and what they may do (memberships).

The order is the same: in, first the client, which may do nothing yet; out, first the membership.

The first way in: while nobody has a password, the start of the server shows a link by which `admin@localhost` sets one.
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
    """See ports.identity."""

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
    """`NotFound`: nobody was ever given such a subject."""
    if not _SUBJECT.fullmatch(subject):
        raise NotFound(f"there is no person {subject[:80]!r}")
    return subject


def _account(user: User) -> UserAccount:
    return UserAccount(user.subject, user.email, _state(user), second_factor=user.second is not None)


def _state(user: User) -> AccountStatus:
    if user.disabled:
        return AccountStatus.DISABLED
    return AccountStatus.INVITED if user.password is None else AccountStatus.ACTIVE


class AccessAdmin(users.UserService):
    """Of people and programs, at the built-in issuer."""

    def __init__(self, issuer: OpenIdProvider, memberships: Memberships) -> None:
        super().__init__(UserDirectory(issuer), memberships)
        self._provider = issuer

    def add_client(self, name: str, *, tenant: str, role: Role) -> RegisteredClient:
        """Let a program in; its secret is shown this once. `Invalid`: no usable name."""
        registered = self._provider.clients.create(tenant, name=name)
        issuer, client = self._provider.membership_issuer, registered.client
        self._memberships.add(Membership(issuer, client.id, tenant, role, client.name))
        return registered

    def clients(self, tenant: str) -> list[tuple[OAuthClient, Membership | None]]:
        """All programs of a tenant, with what each may do."""
        found: list[tuple[OAuthClient, Membership | None]] = []
        cursor: str | None = None
        while True:
            page = self._provider.clients.list(tenant, cursor=cursor)
            found += [(client, self.membership(client.id)) for client in page.clients]
            cursor = page.cursor
            if cursor is None:
                return found

    def revoke_client(self, id: str) -> bool:  # noqa: A002
        """End a program; whether anything of it was there."""
        ended = self._memberships.revoke(self._provider.membership_issuer, id)
        return self._provider.clients.revoke(id) or ended


FIRST_ADMIN = "admin@localhost"


def first_invitation(issuer: OpenIdProvider, memberships: Memberships) -> str | None:
    """A link for the first administrator and operator; None where somebody has a password already.

    Again after a crash, or after a day without use: another link for the same person. Whoever had another role by then keeps it.
    """
    if _any_user_can_sign_in(issuer):
        return None
    user = issuer.users.by_email(FIRST_ADMIN) or _created_admin(issuer)
    membership = Membership(issuer.membership_issuer, user.subject, DEFAULT_TENANT, Role.ADMIN, FIRST_ADMIN, operator=True)
    if memberships.find(issuer.membership_issuer, user.subject) is None:
        memberships.grant(membership)
    return issuer.invitations.invite(user)


def _any_user_can_sign_in(issuer: OpenIdProvider) -> bool:
    cursor: str | None = None
    while True:
        page = issuer.users.list(cursor=cursor)
        if any(user.password is not None for user in page.users):
            return True
        cursor = page.cursor
        if cursor is None:
            return False


def _created_admin(issuer: OpenIdProvider) -> User:
    try:
        return issuer.users.create(FIRST_ADMIN)
    except Conflict:  # another process starts at this moment
        known = issuer.users.by_email(FIRST_ADMIN)
        if known is None:
            raise
        return known
