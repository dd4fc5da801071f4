"""Users: accounts (ports.identity), memberships, and who may change them.

`UserService` is for operators on the command line. Account and membership are two records in two stores. Adding: first the
account, which may do nothing yet, then the membership. Removing: first the membership, which ends all rights within seconds,
then the account. After a crash in between, repeating completes it.

`MemberService` is for the API:

- A caller grants roles up to its own. Only operators set the operator flag, or change an operator.
- A tenant keeps at least one admin (`ledger.memberships`).
- A subject that belongs to another tenant is a `Conflict`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from postroom.errors import Conflict, Denied, NotFound
from postroom.ledger.collection import ListPage
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Principal, Role
from postroom.platform.ports.identity import IdentityProvider, UserAccount


class InvitedUser(NamedTuple):
    """A new user, and the link to set a password; None: the account's store has sent it."""

    user: UserAccount
    link: str | None


class UserService:
    """For operators of the installation; checks no role."""

    def __init__(self, identity: IdentityProvider, memberships: Memberships) -> None:
        self._identity = identity
        self._memberships = memberships

    def add(self, email: str, *, tenant: str, role: Role, operator: bool = False) -> InvitedUser:
        """Add a user. Raises `Invalid` for no address, `Conflict` if the user belongs to a tenant."""
        known = self._identity.find(email)
        if known is not None and self.membership(known.subject) is not None:
            raise Conflict(f"{known.email} is in already: `postroom user role` changes what they may do, `invite` makes a link")
        user, link = self._identity.invite(email)
        self._memberships.add(Membership(self._identity.issuer, user.subject, tenant, role, user.email, operator=operator))
        return InvitedUser(user, link)

    def invite(self, who: str) -> InvitedUser:
        """Let an existing user set a password. Raises `NotFound`."""
        return InvitedUser(*self._identity.invite(self.user(who).email))

    def user(self, who: str) -> UserAccount:
        """The account with that address or subject. Raises `NotFound`."""
        user = self._identity.find(who)
        if user is None:
            raise NotFound(f"no user has the address or subject {who!r}; `postroom user list` lists the users")
        return user

    def membership(self, subject: str) -> Membership | None:
        return self._memberships.find(self._identity.issuer, subject)

    def remove(self, who: str) -> None:
        """Remove a user. Raises `NotFound`."""
        user = self.user(who)
        self._memberships.revoke(self._identity.issuer, user.subject)
        self._identity.remove(user.subject)


class MemberService:
    """Members of the caller's tenant."""

    def __init__(self, memberships: Memberships) -> None:
        self._memberships = memberships

    def list(self, who: Principal, *, cursor: str | None = None, limit: int = 100) -> ListPage[Membership]:
        """Members, in no particular order; `limit` 1 to 1,000."""
        return self._memberships.list(who.tenant, cursor=cursor, limit=limit)

    def get(self, who: Principal, id: str) -> Membership:  # noqa: A002
        """Raises `NotFound`."""
        return self._memberships.get(who.tenant, id)

    def add(self, who: Principal, membership: Membership) -> Membership:
        """Add a member. With the same membership again, returns the existing record. Raises `Conflict` for another tenant's;
        `Denied`."""
        _check(who, role=membership.role, operator=membership.operator)
        return self._memberships.add(membership)

    def change(self, who: Principal, id: str, **fields: Any) -> Membership:  # noqa: A002
        """Replace `role`, `name` or `operator`. Raises `NotFound`, `Denied`, or `Conflict` if no admin would be left."""
        known = self._touchable(who, id)
        role, operator = fields.get("role", known.role), fields.get("operator", known.operator)
        _check(who, role=role, operator=operator)
        return self._memberships.change(who.tenant, id, **fields)

    def remove(self, who: Principal, id: str) -> Membership:  # noqa: A002
        """Remove a member; takes effect within seconds. Raises `NotFound`, `Denied`, or `Conflict` if no admin would be left."""
        self._touchable(who, id)
        return self._memberships.remove(who.tenant, id)

    def _touchable(self, who: Principal, id: str) -> Membership:  # noqa: A002
        known = self._memberships.get(who.tenant, id)
        _check(who, role=known.role, operator=known.operator)
        return known


def _check(who: Principal, *, role: Role, operator: bool) -> None:
    if not who.role.includes(role):
        raise Denied(f"{who.name} is {who.role}: this is about the role {role}")
    if operator and not who.operator:
        raise Denied("only an operator of the installation may do this to an operator, or make one")
