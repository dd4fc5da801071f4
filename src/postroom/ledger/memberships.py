"""Memberships: which tenant somebody belongs to, and as what.

Two items for each, in one atomic write: one that a call finds by issuer and subject whatever the tenant, one in the tenant's
list. So a crash leaves both or neither. Two who change the same membership have one winner; the other looks again.

A tenant keeps an admin: whatever takes one away (`change`, `remove`) also writes the tenant's guard item on the version it read
before counting, so that two admins who remove each other at the same moment cannot both succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.model.access import Membership, Role, member_id
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

_TRIES = 10
_LOOK_UP = "#memberships"
_Writes = list[Write]
_Plan = tuple[_Writes, Membership]


class MembershipPage(NamedTuple):
    """Part of a list, in the order of ids: no order people know. `cursor` asks for the next part."""

    memberships: list[Membership]
    cursor: str | None


class Memberships:
    """Of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def find(self, issuer: str, subject: str) -> Membership | None:
        """Whoever calls, or None. One read."""
        item = self._tables.get(_look_up(member_id(issuer, subject)))
        return None if item is None else _membership(item)

    def get(self, tenant: str, id: str) -> Membership:  # noqa: A002
        """One of the tenant's; `NotFound`."""
        return _membership(self._listed(tenant, id))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> MembershipPage:
        """The tenant's; `limit` 1 to 1,000."""
        page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit)
        return MembershipPage([_membership(item) for item in page.items], page.cursor)

    def grant(self, membership: Membership) -> None:
        """Enter or replace, whatever was there: a subject of another tenant moves. For the operators of the machine."""
        self._retried(lambda: self._granting(membership))

    def add(self, membership: Membership) -> Membership:
        """Enter somebody who belongs nowhere yet; again, as the same: the record there is. `Conflict`: they belong to some
        tenant already; which one is not told."""
        made = self._dated(membership)
        try:
            self._tables.write(_puts(made, Expect.ABSENT))
        except Conflict as conflict:
            known = self.find(made.issuer, made.subject)
            if known is None or replace(known, added_at=made.added_at) != made:
                raise Conflict(f"{made.subject} of that issuer belongs to a tenant already") from conflict
            return known
        return made

    def change(self, tenant: str, id: str, **fields: Any) -> Membership:  # noqa: A002
        """Replace role, name or operator of one of the tenant's. `NotFound`; `Conflict`: no admin would be left."""
        return self._retried(lambda: self._changing(tenant, id, fields))

    def remove(self, tenant: str, id: str) -> Membership:  # noqa: A002
        """End one of the tenant's. `NotFound`; `Conflict`: no admin would be left."""
        return self._retried(lambda: self._removing(tenant, id))

    def revoke(self, issuer: str, subject: str) -> bool:
        """End a membership, the last admin's too; whether there was one. For the operators of the machine."""
        try:
            self._retried(lambda: self._revoking(member_id(issuer, subject)))
        except NotFound:
            return False
        return True

    def _granting(self, membership: Membership) -> _Plan:
        item, made = self._tables.get(_look_up(membership.id)), self._dated(membership)
        writes = _puts(made, Expect.ABSENT if item is None else item.version)
        if item is not None and (left := _entry(_membership(item))) != _entry(made):
            writes.append(Delete(left))
        return writes, made

    def _revoking(self, id: str) -> _Plan:  # noqa: A002
        item = self._tables.get(_look_up(id))
        if item is None:
            raise NotFound(f"there is no user {id}")
        known = _membership(item)
        return [Delete(item.key, item.version), Delete(_entry(known))], known

    def _changing(self, tenant: str, id: str, fields: Mapping[str, Any]) -> _Plan:  # noqa: A002
        item = self._listed(tenant, id)
        known = _membership(item)
        made = replace(known, **fields)
        return [Put(_look_up(id), _data(made)), Put(item.key, _data(made), item.version), *self._guarded(known, made)], made

    def _removing(self, tenant: str, id: str) -> _Plan:  # noqa: A002
        item = self._listed(tenant, id)
        known = _membership(item)
        return [Delete(_look_up(id)), Delete(item.key, item.version), *self._guarded(known, None)], known

    def _guarded(self, known: Membership, made: Membership | None) -> _Writes:
        """What keeps an admin in the tenant (see the module's text)."""
        if known.role is not Role.ADMIN or (made is not None and made.role is Role.ADMIN):
            return []
        guard = self._tables.get(key := ItemKey(f"{known.tenant}#access", "admins"))
        if not self._another_admin(known):
            raise Conflict(f"{known.name} is the last admin of {known.tenant}: make somebody else one first")
        return [Put(key, {}, Expect.ABSENT if guard is None else guard.version)]

    def _another_admin(self, known: Membership) -> bool:
        cursor: str | None = None
        while True:
            page = self.list(known.tenant, cursor=cursor, limit=1_000)
            if any(other.role is Role.ADMIN and other.id != known.id for other in page.memberships):
                return True
            cursor = page.cursor
            if cursor is None:
                return False

    def _listed(self, tenant: str, id: str) -> Item:  # noqa: A002
        item = self._tables.get(ItemKey(_partition(tenant), id))
        if item is None:
            raise NotFound(f"there is no user {id}")
        return item

    def _dated(self, membership: Membership) -> Membership:
        return membership if membership.added_at else replace(membership, added_at=self._clock.now())

    def _retried(self, plan: Callable[[], _Plan]) -> Membership:
        for _ in range(_TRIES):
            writes, made = plan()
            try:
                self._tables.write(writes)
            except Conflict:  # somebody changed it since: look again
                continue
            return made
        raise Conflict("the users of this tenant are being changed by others all the time; try again")


def _partition(tenant: str) -> str:
    return f"{tenant}#members"


def _look_up(id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_LOOK_UP, id)


def _entry(membership: Membership) -> ItemKey:
    return ItemKey(_partition(membership.tenant), membership.id)


def _puts(membership: Membership, expect: Expect | int) -> _Writes:
    data = _data(membership)
    return [Put(_look_up(membership.id), data, expect), Put(_entry(membership), data)]


def _data(membership: Membership) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(membership)
    return data


def _membership(item: Item) -> Membership:
    try:
        return msgspec.convert(item.data, Membership)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the membership {item.key.sort} cannot be read: {error}") from error
