"""Memberships: the tenant that a user or client belongs to, and its role there.

    #memberships / id        found by issuer and subject, whatever the tenant
    {tenant}#members / id    the tenant's list

Both items are one atomic write, so a crash leaves both or neither. Concurrent changes of one membership are retried.

A tenant keeps at least one admin: `change` and `remove` also write the tenant's guard item on the version they read before they
counted admins, so two admins who remove each other at the same time cannot both succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from postroom.clock import Clock
from postroom.errors import Conflict, NotFound
from postroom.ledger.collection import Collection, ListPage, expect_of, write_retrying
from postroom.model.access import Membership, Role, member_id
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

_LOOK_UP = "#memberships"
_Writes = list[Write]
_Plan = tuple[_Writes, Membership]


class Memberships:
    """The memberships of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, Membership, "user")

    def find(self, issuer: str, subject: str) -> Membership | None:
        """The membership of a caller, or None. One read."""
        return self._records.find(_look_up(member_id(issuer, subject)))

    def get(self, tenant: str, id: str) -> Membership:  # noqa: A002
        """A membership of the tenant. Raises `NotFound`."""
        return self._records.get(ItemKey(_partition(tenant), id))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[Membership]:
        """The tenant's memberships by id, which is a digest: no order people know. `limit`: 1 to 1,000."""
        return self._records.page(_partition(tenant), cursor=cursor, limit=limit)

    def grant(self, membership: Membership) -> None:
        """Add or replace a membership; a subject of another tenant moves. For operators."""
        self._write(lambda: self._granting(membership))

    def add(self, membership: Membership) -> Membership:
        """Add a subject that belongs to no tenant yet. Repeating the same call returns the record.

        Raises `Conflict` if the subject belongs to a tenant already; the text does not say which.
        """
        made = self._dated(membership)
        try:
            self._tables.write(self._puts(made, Expect.ABSENT))
        except Conflict as conflict:
            known = self.find(made.issuer, made.subject)
            if known is None or replace(known, added_at=made.added_at) != made:
                raise Conflict(f"{made.subject} of that issuer belongs to a tenant already") from conflict
            return known
        return made

    def change(self, tenant: str, id: str, **fields: Any) -> Membership:  # noqa: A002
        """Replace role, name or operator. Raises `NotFound`, and `Conflict` if no admin would be left."""
        return self._write(lambda: self._changing(tenant, id, fields))

    def remove(self, tenant: str, id: str) -> Membership:  # noqa: A002
        """Remove a membership. Raises `NotFound`, and `Conflict` if no admin would be left."""
        return self._write(lambda: self._removing(tenant, id))

    def revoke(self, issuer: str, subject: str) -> bool:
        """Remove a membership, even the last admin's; False if there was none. For operators."""
        try:
            self._write(lambda: self._revoking(member_id(issuer, subject)))
        except NotFound:
            return False
        return True

    def _granting(self, membership: Membership) -> _Plan:
        item, made = self._tables.get(_look_up(membership.id)), self._dated(membership)
        writes = self._puts(made, expect_of(item))
        if item is not None and (left := _entry(self._records.decode(item))) != _entry(made):
            writes.append(Delete(left))
        return writes, made

    def _revoking(self, id: str) -> _Plan:  # noqa: A002
        item = self._records.item(_look_up(id))
        known = self._records.decode(item)
        return [Delete(item.key, item.version), Delete(_entry(known))], known

    def _changing(self, tenant: str, id: str, fields: Mapping[str, Any]) -> _Plan:  # noqa: A002
        item = self._listed(tenant, id)
        known = self._records.decode(item)
        made = replace(known, **fields)
        puts = [self._records.put_of(_look_up(id), made), self._records.put_of(item.key, made, item.version)]
        return [*puts, *self._guarded(known, made)], made

    def _removing(self, tenant: str, id: str) -> _Plan:  # noqa: A002
        item = self._listed(tenant, id)
        known = self._records.decode(item)
        return [Delete(_look_up(id)), Delete(item.key, item.version), *self._guarded(known, None)], known

    def _guarded(self, known: Membership, made: Membership | None) -> _Writes:
        """The write that keeps an admin in the tenant, if this change takes one away."""
        if known.role is not Role.ADMIN or (made is not None and made.role is Role.ADMIN):
            return []
        guard = self._tables.get(key := ItemKey(f"{known.tenant}#access", "admins"))
        others = (other for other in self._records.iterate(_partition(known.tenant)) if other.id != known.id)
        if not any(other.role is Role.ADMIN for other in others):
            raise Conflict(f"{known.name} is the last admin of {known.tenant}: make another user an admin first")
        return [Put(key, {}, expect_of(guard))]

    def _listed(self, tenant: str, id: str) -> Item:  # noqa: A002
        return self._records.item(ItemKey(_partition(tenant), id))

    def _puts(self, membership: Membership, expect: Expect | int) -> _Writes:
        put_of = self._records.put_of
        return [put_of(_look_up(membership.id), membership, expect), put_of(_entry(membership), membership)]

    def _dated(self, membership: Membership) -> Membership:
        return membership if membership.added_at else replace(membership, added_at=self._clock.now())

    def _write(self, plan: Callable[[], _Plan]) -> Membership:
        return write_retrying(self._tables, plan, "the list of this tenant's users")


def _partition(tenant: str) -> str:
    return f"{tenant}#members"


def _look_up(id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_LOOK_UP, id)


def _entry(membership: Membership) -> ItemKey:
    return ItemKey(_partition(membership.tenant), membership.id)
