"""Tenants: each has a number of its own for ever; who is disabled is known within seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.tenants import Tenants
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables, Write
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Faults, Killed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tables(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, clock)


@pytest.fixture
def tenants(tables: SqliteTables, clock: ManualClock) -> Tenants:
    return Tenants(tables, clock)


def test_each_tenant_has_a_number_and_is_found_by_it(tenants: Tenants) -> None:
    made = [tenants.create(name) for name in ("acme", "beta", "coop")]
    assert [one.number for one in made] == [1, 2, 3]
    assert [tenants.by_number(one.number) for one in made] == made
    assert len({one.secret for one in made}) == 3
    with pytest.raises(NotFound):
        tenants.by_number(4)


def test_the_default_tenant_is_there_from_the_start(tenants: Tenants) -> None:
    assert tenants.get(DEFAULT_TENANT).number == 0
    assert tenants.by_number(0) == tenants.get(DEFAULT_TENANT)
    assert [one.id for one in tenants.list().items] == [DEFAULT_TENANT]
    with pytest.raises(Conflict):
        tenants.create(DEFAULT_TENANT)


def test_a_tenant_of_an_earlier_version_is_read(tables: SqliteTables, tenants: Tenants) -> None:
    tables.write([Put(ItemKey("#tenants", DEFAULT_TENANT), {"number": 0, "secret": "ab" * 32}, Expect.ABSENT)])
    found = tenants.get(DEFAULT_TENANT)
    assert (found.secret, found.disabled, found.created_at) == (b"\xab" * 32, False, None)


def test_a_name_is_taken_once_unless_it_is_the_same_making(tenants: Tenants) -> None:
    made = tenants.create("acme", "Acme", mark="m1")
    assert tenants.create("acme", "Acme", mark="m1") == made
    for mark in ("", "m2"):
        with pytest.raises(Conflict, match="already"):
            tenants.create("acme", mark=mark)


@pytest.mark.parametrize("name", ["", "Acme", "a" * 41, "a b", "a#b", "ä", "a\n", "a\x00", "\ud800", "٣"])
def test_only_wire_safe_ids(tenants: Tenants, name: str) -> None:
    with pytest.raises(Invalid):
        tenants.create(name)
    with pytest.raises(NotFound):
        tenants.get(name)


class Meanwhile:
    """Tables where another process makes a tenant right before the first write."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables, self._name, self._done = tables, name, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    def write(self, writes: Sequence[Write]) -> list[int]:
        if not self._done:
            self._done = True
            Tenants(self._tables, ManualClock()).create(self._name)
        return self._tables.write(writes)


def test_two_who_take_the_same_number_get_two(tables: SqliteTables, clock: ManualClock) -> None:
    late = Tenants(Meanwhile(tables, "first"), clock)  # type: ignore[arg-type]  # by __getattr__
    assert late.create("second").number == 2


def test_two_who_take_the_same_name_have_one_winner(tables: SqliteTables, clock: ManualClock) -> None:
    late = Tenants(Meanwhile(tables, "same"), clock)  # type: ignore[arg-type]  # by __getattr__
    with pytest.raises(Conflict):
        late.create("same")
    assert late.create("next").number == 2


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_kill_leaves_a_tenant_with_its_number_or_nothing(
    tables: SqliteTables, clock: ManualClock, at: int, after: bool
) -> None:
    with suppress(Killed):
        Tenants(Faults(at, after=after).wrap(tables), clock).create("acme", mark="m")
    later = Tenants(tables, clock)
    assert later.create("acme", mark="m").number == 1
    assert later.by_number(1) == later.get("acme")
    assert later.create("beta").number == 2


def test_disabling_is_known_elsewhere_within_seconds(tables: SqliteTables, tenants: Tenants, clock: ManualClock) -> None:
    made = tenants.create("acme")
    other = Tenants(tables, clock)
    other.get("acme")
    assert tenants.disable("acme").disabled
    assert other.read("acme").disabled
    other.get("acme")
    clock.advance(5.1)
    assert other.get("acme").disabled
    assert tenants.enable("acme") == made


def test_the_word_for_ones_own_names_no_tenant(tenants: Tenants) -> None:
    with pytest.raises(Conflict, match="choose another"):
        tenants.create("me")


def test_the_default_tenant_cannot_be_disabled(tenants: Tenants) -> None:
    with pytest.raises(Conflict):
        tenants.disable(DEFAULT_TENANT)
    with pytest.raises(NotFound):
        tenants.disable("nobody")


def test_a_tenant_is_read_once_while_it_is_fresh(tables: SqliteTables, clock: ManualClock) -> None:
    faults = Faults()
    tenants = Tenants(faults.wrap(tables), clock)
    tenants.get(DEFAULT_TENANT)
    before = len(faults.calls)
    for _ in range(10):
        tenants.get(DEFAULT_TENANT)
    assert len(faults.calls) == before
    clock.advance(5.1)
    tenants.get(DEFAULT_TENANT)
    assert len(faults.calls) == before + 1


def test_the_secret_is_never_shown(tenants: Tenants) -> None:
    made = tenants.create("acme")
    assert repr(made.secret) not in repr(made)
    assert made.secret.hex() not in repr(made)
