"""Who belongs to a tenant: the rules of who may let whom in. Nobody grants more than they have.

- A role up to one's own; the operator flag, and any change of somebody who has it, is for operators.
- A tenant keeps an admin (`ledger.access`).
- Nobody is taken from another tenant: a subject that belongs to one already is a `Conflict`.
"""

from __future__ import annotations

from typing import Any

from postroom.errors import Denied
from postroom.ledger.memberships import MembershipPage, Memberships
from postroom.model.access import Membership, Principal, Role


class Members:
    """Of the caller's own tenant."""

    def __init__(self, memberships: Memberships) -> None:
        self._memberships = memberships

    def list(self, who: Principal, *, cursor: str | None = None, limit: int = 100) -> MembershipPage:
        """In no order people know; `limit` 1 to 1,000."""
        return self._memberships.list(who.tenant, cursor=cursor, limit=limit)

    def get(self, who: Principal, id: str) -> Membership:  # noqa: A002
        """One; `NotFound`."""
        return self._memberships.get(who.tenant, id)

    def add(self, who: Principal, membership: Membership) -> Membership:
        """Let somebody in; again, as the same: the record there is. `Conflict`: they belong to a tenant already; `Denied`."""
        _check(who, role=membership.role, operator=membership.operator)
        return self._memberships.add(membership)

    def change(self, who: Principal, id: str, **fields: Any) -> Membership:  # noqa: A002
        """Replace `role`, `name` or `operator`. `NotFound`; `Denied`; `Conflict`: no admin would be left."""
        known = self._touchable(who, id)
        role, operator = fields.get("role", known.role), fields.get("operator", known.operator)
        _check(who, role=role, operator=operator)
        return self._memberships.change(who.tenant, id, **fields)

    def remove(self, who: Principal, id: str) -> Membership:  # noqa: A002
        """Let somebody in no longer, within seconds. `NotFound`; `Denied`; `Conflict`: no admin would be left."""
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
