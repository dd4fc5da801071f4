"""The first way in: while nobody has a password, the start of the server shows a link by which `admin@localhost` sets one."""

from __future__ import annotations

from postroom.errors import Conflict
from postroom.identity.issuer import Issuer
from postroom.identity.people import Person
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role
from postroom.model.tenant import DEFAULT_TENANT

FIRST = "admin@localhost"


def first_invitation(issuer: Issuer, memberships: Memberships) -> str | None:
    """A link for the first administrator and operator; None where somebody has a password already.

    Again after a crash, or after a day without use: another link for the same person. Whoever had another role by then keeps it.
    """
    if _somebody_can_sign_in(issuer):
        return None
    person = issuer.people.by_email(FIRST) or _created(issuer)
    membership = Membership(issuer.membership_issuer, person.subject, DEFAULT_TENANT, Role.ADMIN, FIRST, operator=True)
    if memberships.find(issuer.membership_issuer, person.subject) is None:
        memberships.grant(membership)
    return issuer.invitations.invite(person)


def _somebody_can_sign_in(issuer: Issuer) -> bool:
    cursor: str | None = None
    while True:
        page = issuer.people.list(cursor=cursor)
        if any(person.password is not None for person in page.people):
            return True
        cursor = page.cursor
        if cursor is None:
            return False


def _created(issuer: Issuer) -> Person:
    try:
        return issuer.people.create(FIRST)
    except Conflict:  # another process starts at this moment
        known = issuer.people.by_email(FIRST)
        if known is None:
            raise
        return known
