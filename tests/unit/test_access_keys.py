"""API keys: told from anything else by their looks, kept as a digest, revoked at once, last use noted once a minute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Conflict, NotFound
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.ttl_cache import TtlCache
from postroom.model import access
from postroom.model.access import ApiKey, Role
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import START, ManualClock
from tests.fakes.faults import Faults, Killed

ID = "a" * 16
TEXT = access.compose_key(ID, bytes(range(20)))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tables(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, clock)


@pytest.fixture
def keys(tables: SqliteTables, clock: ManualClock) -> ApiKeyRecords:
    return ApiKeyRecords(tables, clock)


def key(tenant: str = "acme", text: str = TEXT) -> ApiKey:
    return ApiKey(ID, tenant, "shop", Role.SENDER, access.key_digest(text), START, "ann", frozenset({"messages", "search"}))


def test_a_key_reads_back() -> None:
    assert access.parse_key(TEXT) == (ID, TEXT)
    assert key().is_of(TEXT)
    assert not key().is_of(access.compose_key(ID, bytes(20)))


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("234567abcdefghijklmnopqrstuvwxyz_"))
def test_one_wrong_character_is_noticed_without_asking(at: int, character: str) -> None:
    wrong = TEXT[:at] + character + TEXT[at + 1 :]
    assert (access.parse_key(wrong) is None) == (wrong != TEXT)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert access.parse_key(text) is None
    assert access.parse_key(TEXT + text) == (access.parse_key(TEXT) if not text else None)


def test_every_key_has_at_least_160_bits_of_secret() -> None:
    ends = [access.compose_key(ID, (1 << bit).to_bytes(20, "big")) for bit in range(160)]
    assert len({text.rsplit("_", 1)[1][:32] for text in ends}) == 160


def test_what_is_kept_does_not_hold_the_secret(tables: SqliteTables, keys: ApiKeyRecords) -> None:
    keys.create(key())
    items = [*tables.query("#keys").items, *tables.query("acme#keys").items]
    assert len(items) == 2
    assert all(TEXT.rsplit("_", 1)[1][:32] not in str(item.data) for item in items)
    assert access.key_digest(TEXT) not in repr(key())


def test_a_key_is_found_and_listed(keys: ApiKeyRecords) -> None:
    keys.create(key())
    assert keys.find(ID) == key()
    assert keys.get("acme", ID).key == key()
    assert [used.key for used in keys.list("acme").items] == [key()]


def test_making_the_same_key_again_is_harmless(keys: ApiKeyRecords) -> None:
    assert keys.create(key()) == keys.create(replace(key(), created_at=START))
    with pytest.raises(Conflict):
        keys.create(key(text=access.compose_key(ID, bytes(20))))
    with pytest.raises(Conflict):
        keys.create(key(tenant="other"))


def test_another_tenants_key_is_not_found(keys: ApiKeyRecords) -> None:
    keys.create(key())
    for attempt in (keys.get, keys.revoke):
        with pytest.raises(NotFound):
            attempt("other", ID)
    assert keys.list("other").items == []
    assert keys.find(ID) is not None


def test_revoking_leaves_nothing(tables: SqliteTables, keys: ApiKeyRecords) -> None:
    keys.create(key())
    keys.record_use(key())
    keys.revoke("acme", ID)
    assert keys.find(ID) is None
    assert keys.list("acme").items == []
    assert tables.query("acme#key-uses").items == []
    with pytest.raises(NotFound):
        keys.revoke("acme", ID)


def test_a_use_is_noted_at_most_once_a_minute(tables: SqliteTables, clock: ManualClock) -> None:
    faults = Faults()
    keys = ApiKeyRecords(faults.wrap(tables), clock)
    keys.create(key())
    assert keys.get("acme", ID).last_used_at is None
    for _ in range(100):
        keys.record_use(key())
    assert faults.calls.count("SqliteTables.write") == 2
    assert keys.get("acme", ID).last_used_at == START
    clock.advance(60)
    keys.record_use(key())
    assert keys.list("acme").items[0].last_used_at == START + 60_000


def test_a_use_that_comes_late_does_not_revive_a_revoked_key(tables: SqliteTables, keys: ApiKeyRecords) -> None:
    keys.create(key())
    keys.revoke("acme", ID)
    keys.record_use(key())
    assert tables.query("acme#key-uses").items == []


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_leaves_both_items_or_neither(tables: SqliteTables, keys: ApiKeyRecords, clock: ManualClock, after: bool) -> None:
    with suppress(Killed):
        ApiKeyRecords(Faults(1, after=after).wrap(tables), clock).create(key())
    assert (keys.find(ID) is not None) == (len(keys.list("acme").items) == 1) == after


def test_a_memory_is_bounded_and_its_entries_end(clock: ManualClock) -> None:
    recent: TtlCache[int, str] = TtlCache(clock, most=3)
    for number in range(5):
        recent.put(number, str(number), seconds=10)
    assert [recent.get(number) for number in range(5)] == [None, None, "2", "3", "4"]
    recent.put(2, "two", seconds=20)
    clock.advance(10)
    assert [recent.get(number) for number in range(2, 5)] == ["two", None, None]
    recent.put(2, "two", seconds=0)
    assert recent.get(2) is None
