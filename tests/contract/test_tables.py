"""The promise of `ports.tables`, on every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, TooLarge
from postroom.platform.ports.tables import MAX_ITEM_BYTES, Check, Delete, Expect, Item, ItemKey, Put, Tables
from tests.contract.backend import Backend

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")

PART = "tenant#campaigns"


def key(sort: str, partition: str = PART) -> ItemKey:
    return ItemKey(partition, sort)


def put(tables: Tables, *sorts: str, partition: str = PART) -> None:
    for start in range(0, len(sorts), 100):
        tables.write([Put(key(sort, partition), {"sort": sort}) for sort in sorts[start : start + 100]])


def everything(tables: Tables, *, prefix: str = "", limit: int = 100, reverse: bool = False, partition: str = PART) -> list[Item]:
    """All pages of a query; every page keeps to the limit."""
    found: list[Item] = []
    cursor: str | None = None
    while True:
        page = tables.query(partition, prefix=prefix, cursor=cursor, limit=limit, reverse=reverse)
        assert len(page.items) <= limit
        found.extend(page.items)
        if page.cursor is None:
            return found
        cursor = page.cursor


def sorts(items: list[Item]) -> list[str]:
    return [item.key.sort for item in items]


def test_an_item_is_absent_then_stored_replaced_and_removed(tables: Tables) -> None:
    assert tables.get(key("one")) is None
    assert tables.write([Put(key("one"), {"n": 1})]) == [1]
    assert tables.get(key("one")) == Item(key("one"), {"n": 1}, 1)
    assert tables.write([Put(key("one"), {"m": 2})]) == [2]
    assert tables.get(key("one")) == Item(key("one"), {"m": 2}, 2)
    assert tables.write([Delete(key("one"))]) == [0]
    assert tables.get(key("one")) is None


def test_versions_begin_anew_with_a_new_life(tables: Tables) -> None:
    tables.write([Put(key("one"), {})])
    tables.write([Put(key("one"), {})])
    tables.write([Delete(key("one"))])
    assert tables.write([Put(key("one"), {}, Expect.ABSENT)]) == [1]


def test_another_client_sees_a_write_at_once(backend: Backend) -> None:
    one, other = backend.tables(), backend.tables()
    for n in range(5):
        one.write([Put(key("seen"), {"n": n})])
        found = other.get(key("seen"))
        assert found is not None
        assert found.data == {"n": n}
        assert sorts(everything(other)) == ["seen"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"text": "", "none": None, "yes": True, "no": False, "list": [], "object": {"": {"deep": [[1], {}]}}},
        {"small": -0.1, "float": 1e300, "whole": 1.0, "large": 2**63 + 1, "negative": -(2**70)},
        {"text": "\x00 \x1f \u2028 \ufeff é e\u0301 \U0001f600 \uffff \"'\\", "\x00key": "ключ"},
    ],
    ids=["empty", "nested", "numbers", "text"],
)
def test_data_comes_back_as_it_was(tables: Tables, data: dict[str, Any]) -> None:
    tables.write([Put(key("data"), data)])
    found = tables.get(key("data"))
    assert found is not None
    assert found.data == data
    assert [type(value) for value in found.data.values()] == [type(value) for value in data.values()]


@pytest.mark.parametrize(
    ("stored", "demand"),
    [
        (False, lambda k: Put(k, {"new": 1}, 1)),
        (False, lambda k: Delete(k, 1)),
        (False, lambda k: Check(k, 1)),
        (True, lambda k: Put(k, {"new": 1}, Expect.ABSENT)),
        (True, lambda k: Put(k, {"new": 1}, 1)),
        (True, lambda k: Put(k, {"new": 1}, 3)),
        (True, lambda k: Delete(k, 1)),
        (True, lambda k: Check(k, Expect.ABSENT)),
        (True, lambda k: Check(k, 1)),
    ],
)
def test_an_unmet_demand_is_a_conflict_that_names_the_key_and_changes_nothing(
    tables: Tables, stored: bool, demand: Callable[[ItemKey], Any]
) -> None:
    if stored:
        tables.write([Put(key("held"), {"n": 1})])
        tables.write([Put(key("held"), {"n": 2})])
    before = tables.get(key("held"))
    with pytest.raises(Conflict, match="held"):
        tables.write([demand(key("held"))])
    assert tables.get(key("held")) == before


def test_met_demands_pass_and_a_check_changes_nothing(tables: Tables) -> None:
    put(tables, "checked", "removed")
    assert tables.write(
        [
            Check(key("checked"), 1),
            Check(key("nowhere"), Expect.ABSENT),
            Put(key("new"), {}, Expect.ABSENT),
            Delete(key("removed"), 1),
            Delete(key("never-was")),
        ]
    ) == [0, 0, 1, 0, 0]
    assert tables.get(key("checked")) == Item(key("checked"), {"sort": "checked"}, 1)
    assert sorts(everything(tables)) == ["checked", "new"]


def test_a_hundred_writes_are_one_and_an_unmet_demand_in_the_middle_undoes_all(tables: Tables) -> None:
    names = [f"{n:03}" for n in range(100)]
    put(tables, "050")
    writes = [Put(key(name), {"again": True}, Expect.ABSENT) for name in names]
    with pytest.raises(Conflict, match="050"):
        tables.write(writes)
    assert everything(tables) == [Item(key("050"), {"sort": "050"}, 1)]
    writes[50] = Put(key("050"), {"again": True}, 1)
    assert tables.write(writes) == [2 if name == "050" else 1 for name in names]
    assert sorts(everything(tables)) == names


def test_a_conflict_names_the_first_unmet_demand(tables: Tables) -> None:
    with pytest.raises(Conflict, match="second"):
        tables.write([Check(key("first"), Expect.ABSENT), Check(key("second"), 1), Check(key("third"), 1)])


def test_no_call_takes_more_than_a_hundred_writes_or_two_for_one_key(tables: Tables) -> None:
    with pytest.raises(Invalid):
        tables.write([Put(key(str(n)), {}) for n in range(101)])
    with pytest.raises(Invalid):
        tables.write([Put(key("twice"), {}), Delete(key("twice"))])
    assert everything(tables) == []
    assert tables.write([]) == []


def test_a_partition_is_read_in_the_byte_order_of_utf8(tables: Tables) -> None:
    """UTF-16 order would put the emoji before U+FFFF, a locale's would put é beside e."""
    names = ["\U0001f600", "\uffff", "é", "e\u0301", "z", "Z", "a", "aa", "a#", "a\x00", "\x01", "~", "0", "10", "2", "ß"]
    put(tables, *names)
    ordered = sorted(names, key=str.encode)
    assert sorts(everything(tables)) == ordered
    assert sorts(everything(tables, limit=3)) == ordered
    assert sorts(everything(tables, limit=3, reverse=True)) == ordered[::-1]


@pytest.mark.parametrize("prefix", ["", "a", "a%", "a_", "é", "\uffff", "b", "a\U0010ffff"])
def test_a_prefix_is_literal_and_whole(tables: Tables, prefix: str) -> None:
    names = ["A", "a", "a%", "a%b", "a_", "a_b", "ab", "a\U0010ffff", "a\U0010ffffz", "e", "é", "éa", "\uffff", "\uffff\uffff"]
    put(tables, *names)
    expected = sorted((name for name in names if name.startswith(prefix)), key=str.encode)
    assert sorts(everything(tables, prefix=prefix, limit=2)) == expected
    assert sorts(everything(tables, prefix=prefix, limit=2, reverse=True)) == expected[::-1]


def test_partitions_are_apart_even_when_one_name_begins_another(tables: Tables) -> None:
    put(tables, "a", partition="t#1")
    put(tables, "a", "b", partition="t#10")
    assert sorts(everything(tables, partition="t#1")) == ["a"]
    assert sorts(everything(tables, partition="t#10")) == ["a", "b"]
    assert sorts(everything(tables, partition="t#")) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_holds_while_the_data_changes(tables: Tables, reverse: bool) -> None:
    """What stays throughout is seen exactly once; the item the cursor stands on may go."""
    names = [f"{n:02}" for n in range(20)]
    put(tables, *names)
    page = tables.query(PART, limit=8, reverse=reverse)
    seen = sorts(list(page.items))
    assert 0 < len(seen) < len(names)
    ahead, behind = ("zz", "!!") if not reverse else ("!!", "zz")
    tables.write([Delete(key(seen[-1])), Put(key(ahead), {}), Put(key(behind), {})])
    while page.cursor is not None:
        page = tables.query(PART, cursor=page.cursor, limit=8, reverse=reverse)
        seen += sorts(list(page.items))
    assert seen == (names[::-1] if reverse else names) + [ahead]


def test_a_page_that_ends_with_the_data_says_so_by_the_next_at_the_latest(tables: Tables) -> None:
    put(tables, "a", "b", "c", "d")
    page = tables.query(PART, limit=4)
    assert sorts(list(page.items)) == ["a", "b", "c", "d"]
    if page.cursor is not None:
        page = tables.query(PART, cursor=page.cursor, limit=4)
        assert (list(page.items), page.cursor) == ([], None)


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_limit_out_of_range_is_invalid(tables: Tables, limit: int) -> None:
    with pytest.raises(Invalid):
        tables.query(PART, limit=limit)


@pytest.mark.parametrize("cursor", ["", "nonsense!", "////", "é"])
def test_a_cursor_from_elsewhere_is_invalid_or_finds_nothing_wrong(tables: Tables, cursor: str) -> None:
    put(tables, "a")
    try:
        page = tables.query(PART, cursor=cursor)
    except Invalid:
        return
    assert sorts(list(page.items)) in ([], ["a"])


def test_an_expired_item_is_absent_everywhere(backend: Backend, tables: Tables) -> None:
    soon = Instant(backend.clock.now() + 1_000)
    late = Instant(backend.clock.now() + 3_600_000)
    tables.write([Put(key("soon"), {"n": 1}, expires_at=soon), Put(key("soon-too"), {}, expires_at=soon)])
    tables.write([Put(key("late"), {"n": 2}, expires_at=late)])
    assert tables.write([Put(key("soon"), {"n": 1}, expires_at=soon)]) == [2]
    backend.wait(1.05)
    assert tables.get(key("soon")) is None
    assert tables.get(key("late")) == Item(key("late"), {"n": 2}, 1, late)
    assert set(tables.get_many([key("soon"), key("late")])) == {key("late")}
    assert tables.existing(PART, ["soon", "late"]) == {"late"}
    assert sorts(everything(tables, limit=1)) == ["late"]
    with pytest.raises(Conflict):
        tables.write([Check(key("soon"), 2)])
    with pytest.raises(Conflict):
        tables.write([Delete(key("soon"), 2)])
    tables.write([Check(key("soon-too"), Expect.ABSENT)])
    assert tables.write([Put(key("soon"), {"n": 3}, Expect.ABSENT)]) == [1]
    assert tables.write([Put(key("soon-too"), {"n": 4})]) == [1]
    assert tables.get(key("soon")) == Item(key("soon"), {"n": 3}, 1)


def test_many_keys_are_read_at_once_missing_ones_left_out(tables: Tables) -> None:
    names = [f"n{n}" for n in range(230)]
    put(tables, *names)
    wanted = [key(name) for name in [*names, "missing", "n1"]]
    found = tables.get_many(wanted)
    assert sorts(sorted(found.values(), key=lambda item: item.key)) == sorted(names)
    assert tables.get_many([]) == {}


def test_existing_tells_which_of_any_number_are_there(tables: Tables) -> None:
    there = {"plain@example.org", "nul\x00@example.org", "ünï@example.org", "\U0001f600", "%", "nul"}
    put(tables, *there)
    others = [f"missing{n}@example.org" for n in range(1_200)]
    assert tables.existing(PART, [*others, *there, "nul\x00", "plain@example.org"]) == there
    assert tables.existing("other", list(there)) == set()
    assert tables.existing(PART, []) == set()


@pytest.mark.parametrize("part", ["", "a" * 1_025, "é" * 513, "\ud800"], ids=["empty", "long", "long in bytes", "surrogate"])
def test_a_key_out_of_bounds_is_invalid(tables: Tables, part: str) -> None:
    for bad in (ItemKey(part, "a"), ItemKey("a", part)):
        with pytest.raises(Invalid):
            tables.write([Put(bad, {})])
        with pytest.raises(Invalid):
            tables.get(bad)
        with pytest.raises(Invalid):
            tables.existing(bad.partition, [bad.sort])


def test_the_longest_key_and_the_largest_item_are_kept(tables: Tables) -> None:
    longest = ItemKey("p" * 1_024, "é" * 512)
    room = MAX_ITEM_BYTES - len('{"text":""}')
    tables.write([Put(longest, {"text": "é" * (room // 2) + "x" * (room % 2)})])
    found = tables.get(longest)
    assert found is not None
    assert len(found.data["text"].encode()) == room
    with pytest.raises(TooLarge):
        tables.write([Put(longest, {"text": "x" * (room + 1)})])


@pytest.mark.parametrize("data", [{"a": {1, 2}}, {"a": float("nan")}, {"a": b"x"}, {"a": "\ud800"}])
def test_data_that_is_no_json_is_invalid(tables: Tables, data: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tables.write([Put(key("one"), data)])
    assert tables.get(key("one")) is None


def test_of_racing_conditional_writes_one_wins(backend: Backend) -> None:
    clients = [backend.tables() for _ in range(4)]
    start = threading.Barrier(len(clients))

    def claim(n: int) -> bool:
        start.wait(10)
        try:
            clients[n].write([Put(key("claimed"), {"by": n}, Expect.ABSENT), Put(key(f"side{n}"), {})])
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(len(clients)) as pool:
        won = list(pool.map(claim, range(len(clients))))
    assert won.count(True) == 1
    held = clients[0].get(key("claimed"))
    assert held is not None
    assert held.data == {"by": won.index(True)}
    assert sorts(everything(clients[0], prefix="side")) == [f"side{won.index(True)}"]


def test_no_increment_is_lost_between_racing_clients(backend: Backend) -> None:
    clients = [backend.tables() for _ in range(3)]
    clients[0].write([Put(key("count"), {"n": 0})])

    def increment(tables: Tables) -> None:
        done = 0
        while done < 5:
            item = tables.get(key("count"))
            assert item is not None
            try:
                tables.write([Put(key("count"), {"n": item.data["n"] + 1}, item.version)])
            except Conflict:
                continue
            done += 1

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(increment, clients))
    final = clients[0].get(key("count"))
    assert final == Item(key("count"), {"n": 15}, 16)


def test_a_call_of_more_than_three_megabytes_is_too_large_and_changes_nothing(tables: Tables) -> None:
    with pytest.raises(TooLarge):
        tables.write([Put(key(str(n)), {"text": "x" * 99_000}) for n in range(31)])
    assert everything(tables) == []
