"""Memberships: found by issuer and subject, listed by tenant, and a tenant keeps an admin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.errors import Conflict, NotFound
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role, member_id
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Tables, Write
from tests.fakes.clock import START, ManualClock
from tests.fakes.faults import Faults, Killed

ISSUER = "https://id.example"


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, ManualClock())


@pytest.fixture
def members(tables: SqliteTables) -> Memberships:
    return Memberships(tables, ManualClock())


def somebody(subject: str = "ann", role: Role = Role.ADMIN, tenant: str = "acme") -> Membership:
    return Membership(ISSUER, subject, tenant, role, f"{subject}@a.example")


class Meanwhile:
    """Tables where somebody else writes right before the first write."""

    def __init__(self, tables: Tables, act: Callable[[], object]) -> None:
        self._tables = tables
        self._act: Callable[[], object] | None = act

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    def write(self, writes: Sequence[Write]) -> list[int]:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._tables.write(writes)


def test_who_was_granted_is_found_and_listed(members: Memberships) -> None:
    members.grant(somebody())
    assert members.find(ISSUER, "ann") == replace(somebody(), added_at=START)
    assert members.list("acme").items == [members.find(ISSUER, "ann")]
    assert members.get("acme", somebody().id) == members.find(ISSUER, "ann")


def test_issuer_and_subject_are_never_confused(members: Memberships) -> None:
    members.grant(somebody())
    assert members.find(ISSUER + "a", "nn") is None
    assert members.find("https://other.example", "ann") is None
    assert member_id("ab", "c") != member_id("a", "bc")


def test_another_tenants_member_is_not_found(members: Memberships) -> None:
    members.grant(somebody())
    for attempt in (members.get, members.remove, members.change):
        with pytest.raises(NotFound):
            attempt("other", somebody().id)
    assert members.list("other").items == []


def test_a_list_comes_in_pages(members: Memberships) -> None:
    for number in range(5):
        members.grant(somebody(f"p{number}"))
    first = members.list("acme", limit=3)
    rest = members.list("acme", cursor=first.cursor, limit=3)
    assert {one.subject for one in first.items + rest.items} == {f"p{number}" for number in range(5)}
    assert rest.cursor is None


def test_a_grant_replaces_and_moves(members: Memberships) -> None:
    members.grant(somebody())
    members.grant(somebody(role=Role.VIEWER, tenant="other"))
    found = members.find(ISSUER, "ann")
    assert found is not None
    assert (found.tenant, found.role) == ("other", Role.VIEWER)
    assert members.list("acme").items == []
    assert members.list("other").items == [found]


def test_adding_never_takes_somebody_from_another_tenant(members: Memberships) -> None:
    members.grant(somebody())
    with pytest.raises(Conflict, match="already"):
        members.add(somebody(tenant="other"))
    assert members.list("other").items == []


def test_adding_the_same_again_is_harmless(members: Memberships) -> None:
    assert members.add(somebody()) == members.add(somebody())
    with pytest.raises(Conflict):
        members.add(somebody(role=Role.VIEWER))


def test_revoking_leaves_nothing(members: Memberships) -> None:
    members.grant(somebody())
    assert members.revoke(ISSUER, "ann")
    assert members.find(ISSUER, "ann") is None
    assert members.list("acme").items == []
    assert not members.revoke(ISSUER, "ann")


def test_the_last_admin_stays(members: Memberships) -> None:
    members.grant(somebody())
    members.grant(somebody("bob", Role.SENDER))
    with pytest.raises(Conflict, match="last admin"):
        members.remove("acme", somebody().id)
    with pytest.raises(Conflict, match="last admin"):
        members.change("acme", somebody().id, role=Role.SENDER)
    members.change("acme", somebody().id, name="Ann")
    members.remove("acme", somebody("bob").id)
    assert [one.name for one in members.list("acme").items] == ["Ann"]


def test_two_admins_who_remove_each_other_leave_one(tables: SqliteTables, members: Memberships) -> None:
    """Both have counted two admins before either writes."""
    members.grant(somebody())
    members.grant(somebody("bob"))
    slow = Memberships(Meanwhile(tables, lambda: members.remove("acme", somebody("bob").id)), ManualClock())  # type: ignore[arg-type]  # by __getattr__
    with pytest.raises(Conflict, match="last admin"):
        slow.remove("acme", somebody().id)
    assert [one.subject for one in members.list("acme").items] == ["ann"]


def test_who_changes_a_record_that_moved_looks_again(tables: SqliteTables, members: Memberships) -> None:
    members.grant(somebody("bob"))
    members.grant(somebody())
    away = somebody(tenant="other")
    slow = Memberships(Meanwhile(tables, lambda: members.grant(away)), ManualClock())  # type: ignore[arg-type]  # by __getattr__
    with pytest.raises(NotFound):
        slow.change("acme", away.id, role=Role.VIEWER)
    found = members.find(ISSUER, "ann")
    assert found is not None
    assert (found.tenant, found.role) == ("other", Role.ADMIN)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_kill_leaves_both_items_or_neither(tables: SqliteTables, members: Memberships, at: int, after: bool) -> None:
    members.grant(somebody())
    dying = Memberships(Faults(at, after=after).wrap(tables), ManualClock())
    with suppress(Killed):
        dying.grant(somebody(role=Role.EDITOR, tenant="other"))
    found = members.find(ISSUER, "ann")
    assert found is not None
    assert members.list(found.tenant).items == [found]
    assert members.list("acme" if found.tenant == "other" else "other").items == []
