"""The promise of `ports.objects`, on every backend. What a crash or a full disk leaves here: test_objects_on_disk."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from postroom.errors import Conflict, Invalid, NotFound
from postroom.platform.ports.objects import Objects
from tests.contract.backend import Backend

pytestmark = pytest.mark.backends("embedded", "sealed", "aws")

MIB = 1 << 20
SIZES = [0, 1, 64 * 1024, 64 * 1024 + 1, MIB, 6 * MIB + 7]


def content(size: int, seed: int = 0) -> bytes:
    """Bytes in which no part repeats another, so that a wrong piece shows."""
    return hashlib.shake_128(f"{size} {seed}".encode()).digest(size)


def keys(objects: Objects, prefix: str = "", limit: int = 100) -> list[str]:
    """All pages of a listing; every page keeps to the limit."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = objects.list(prefix, cursor=cursor, limit=limit)
        assert len(page.objects) <= limit
        found += [info.key for info in page.objects]
        if page.cursor is None:
            return found
        cursor = page.cursor


def pieces(raw: bytes, size: int = 100_003) -> Iterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [lambda raw: raw, io.BytesIO, pieces], ids=["bytes", "stream", "iterator"])
def test_content_comes_back_whole_in_ranges_and_as_a_stream(objects: Objects, size: int, form: Callable[[bytes], Any]) -> None:
    raw = content(size)
    info = objects.put("a/b.csv", form(raw), content_type="text/csv; charset=utf-8")
    assert (info.key, info.size, info.content_type) == ("a/b.csv", size, "text/csv; charset=utf-8")
    assert info.sha256 == hashlib.sha256(raw).hexdigest()
    assert objects.info("a/b.csv") == info
    assert objects.get("a/b.csv") == raw
    with objects.open("a/b.csv") as stream:
        assert stream.read(10) == raw[:10]
        assert b"".join(iter(lambda: stream.read(300_000), b"")) == raw[10:]
    middle = size // 2
    assert objects.read("a/b.csv", middle, 20) == raw[middle : middle + 20]
    assert objects.read("a/b.csv", max(0, size - 5), 20) == raw[-5:]
    assert objects.read("a/b.csv", size, 5) == b""
    assert objects.read("a/b.csv", size + 100, 5) == b""
    assert objects.read("a/b.csv", 0, 0) == b""


def test_lines_of_a_stream_are_read_one_by_one(objects: Objects) -> None:
    objects.put("rows.csv", b"a,b\r\n" * 50_000)
    with objects.open("rows.csv") as stream:
        assert sum(1 for line in stream if line == b"a,b\r\n") == 50_000


def test_what_is_not_there_is_not_found(objects: Objects) -> None:
    objects.put("there", b"x")
    version = objects.info("there")
    assert version is not None
    for call in (objects.get, objects.open, lambda key: objects.read(key, 0, 1)):
        with pytest.raises(NotFound):
            call("missing")
    with pytest.raises(NotFound):
        objects.get("missing", version.version)
    with pytest.raises(NotFound):
        objects.get("there", "nonsense")
    assert objects.info("missing") is None
    assert objects.info("there", "nonsense") is None
    assert objects.versions("missing") == []
    objects.delete("missing")
    assert objects.purge("missing") == 0


def test_each_put_is_a_version_and_the_newest_is_current(backend: Backend, objects: Objects) -> None:
    first = objects.put("key", b"one", content_type="a/a")
    backend.wait(0.01)
    second = objects.put("key", b"two", content_type="b/b")
    same = objects.put("key", b"two", content_type="b/b")
    assert len({first.version, second.version, same.version}) == 3
    assert objects.versions("key") == [same, second, first]
    assert objects.info("key") == same
    assert objects.info("key", first.version) == first
    assert objects.get("key", first.version) == b"one"
    assert objects.read("key", 1, 2, second.version) == b"wo"
    with objects.open("key", first.version) as stream:
        assert stream.read() == b"one"
    assert keys(objects) == ["key"]


@pytest.mark.parametrize("size", [10, 200_000])
def test_an_open_stream_keeps_the_version_it_opened(objects: Objects, size: int) -> None:
    old = content(size, 1)
    objects.put("key", old)
    with objects.open("key") as stream:
        head = stream.read(5)
        objects.put("key", content(size, 2))
        objects.delete("key")
        assert head + stream.read() == old


def test_a_deleted_key_is_hidden_and_its_versions_are_kept_until_purged(objects: Objects) -> None:
    first = objects.put("key", b"one")
    objects.put("key-2", b"kept")
    objects.delete("key")
    objects.delete("key")
    assert objects.info("key") is None
    with pytest.raises(NotFound):
        objects.get("key")
    assert keys(objects) == ["key-2"]
    assert objects.get("key", first.version) == b"one"
    assert objects.versions("key") == [first]
    second = objects.put("key", b"two", if_absent=True)
    assert objects.versions("key") == [second, first]
    assert objects.get("key") == b"two"


def test_purge_deletes_every_version_of_a_prefix_for_good(objects: Objects) -> None:
    first = objects.put("a/1", b"x")
    objects.put("a/1", content(100_000))
    objects.put("a/2/3", b"x")
    objects.delete("a/2/3")
    objects.put("ab", b"kept")
    objects.put("A/1", b"kept")
    with pytest.raises(Invalid):
        objects.purge("")
    assert objects.purge("a/") == 3
    assert keys(objects) == ["A/1", "ab"]
    assert objects.versions("a/1") == objects.versions("a/2/3") == []
    with pytest.raises(NotFound):
        objects.get("a/1", first.version)
    assert objects.purge("a/") == 0
    objects.put("a/1", b"new", if_absent=True)
    assert objects.get("a/1") == b"new"


def test_if_absent_stores_only_where_there_is_no_current_version(objects: Objects) -> None:
    first = objects.put("key", b"one", if_absent=True)
    for raw in (b"two", content(100_000)):
        with pytest.raises(Conflict):
            objects.put("key", raw, if_absent=True)
    assert objects.versions("key") == [first]


@pytest.mark.parametrize("size", [10, 200_000])
def test_of_racing_puts_if_absent_one_wins(backend: Backend, size: int) -> None:
    clients = [backend.objects() for _ in range(4)]
    start = threading.Barrier(len(clients))

    def claim(n: int) -> bool:
        start.wait(10)
        try:
            clients[n].put("claimed", content(size, n), if_absent=True)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(len(clients)) as pool:
        won = list(pool.map(claim, range(len(clients))))
    assert won.count(True) == 1
    assert clients[0].get("claimed") == content(size, won.index(True))
    assert len(clients[0].versions("claimed")) == 1


@pytest.mark.parametrize("before", [0, 100, 7 * MIB])
def test_content_that_breaks_off_leaves_what_was_there(objects: Objects, before: int) -> None:
    def breaking() -> Iterator[bytes]:
        yield content(before)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        objects.put("key", breaking())
    assert objects.info("key") is None
    old = objects.put("key", b"old")
    with pytest.raises(RuntimeError, match="the source broke"):
        objects.put("key", breaking())
    assert objects.versions("key") == [old]
    assert objects.get("key") == b"old"


def test_nothing_shows_until_a_put_is_complete(backend: Backend, objects: Objects) -> None:
    other = backend.objects()

    def watched() -> Iterator[bytes]:
        for _ in range(3):
            yield content(3 * MIB)
            assert other.info("key") is None
            assert keys(other) == []

    objects.put("key", watched())
    assert other.info("key") is not None


def test_listing_is_in_byte_order_shows_current_keys_only_and_pages(objects: Objects) -> None:
    names = ["a", "a+b", "a-b", "a.b", "a/b", "a/b/c", "a/b-c", "a0", "a=b", "a@b", "A", "Z", "_", "b", "a_b", "a/", "0"]
    names.remove("a/")
    for name in names:
        objects.put(name, name.encode())
    objects.put("hidden", b"")
    objects.delete("hidden")
    assert keys(objects) == keys(objects, limit=2) == sorted(names)
    for prefix in ("a", "a/", "a/b", "a/b/c", "a-", "z", "A"):
        assert keys(objects, prefix, limit=2) == sorted(name for name in names if name.startswith(prefix))
    page = objects.list("a/b", limit=1)
    assert [info.size for info in page.objects] == [3]


def test_a_cursor_holds_while_the_data_changes(objects: Objects) -> None:
    names = [f"{n:02}" for n in range(9)]
    for name in names:
        objects.put(name, b"")
    page = objects.list(limit=4)
    seen = [info.key for info in page.objects]
    objects.delete(seen[-1])
    objects.put("+", b"behind")
    objects.put("zz", b"ahead")
    while page.cursor is not None:
        page = objects.list(cursor=page.cursor, limit=4)
        seen += [info.key for info in page.objects]
    assert seen == [*names, "zz"]


@pytest.mark.parametrize("limit", [0, 1_001])
def test_a_limit_out_of_range_is_invalid(objects: Objects, limit: int) -> None:
    with pytest.raises(Invalid):
        objects.list(limit=limit)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../a",
        "a/..",
        "./a",
        "a b",
        "a\\b",
        "a\x00b",
        "a\n",
        "é",
        "a:b",
        "a%2e",
        "~",
        "a" * 513,
    ],
)
def test_a_key_that_could_leave_the_root_or_is_no_key_is_invalid(objects: Objects, key: str) -> None:
    for call in (
        lambda: objects.put(key, b""),
        lambda: objects.get(key),
        lambda: objects.open(key),
        lambda: objects.read(key, 0, 1),
        lambda: objects.info(key),
        lambda: objects.versions(key),
        lambda: objects.delete(key),
    ):
        with pytest.raises(Invalid):
            call()


@pytest.mark.parametrize(
    "key", ["a" * 512, "a" * 255 + "/" + "b" * 256, "..a/...", ".hidden", "-", "=", "a@b+c_d.e=f", "con/NUL"]
)
def test_any_key_within_the_rule_is_kept(objects: Objects, key: str) -> None:
    objects.put(key, b"x")
    assert objects.get(key) == b"x"
    assert keys(objects) == [key]


def test_keys_that_differ_in_case_or_nest_are_different_objects(objects: Objects) -> None:
    for name in ("a", "A", "a/a", "a/A", "a/a/a"):
        objects.put(name, name.encode())
    assert {name: objects.get(name) for name in keys(objects)} == {
        name: name.encode() for name in ("A", "a", "a/A", "a/a", "a/a/a")
    }


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1)])
def test_a_range_that_is_none_is_invalid(objects: Objects, start: int, length: int) -> None:
    objects.put("key", b"abc")
    with pytest.raises(Invalid):
        objects.read("key", start, length)
