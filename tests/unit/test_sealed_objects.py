"""What is encrypted in the object store: nothing readable on disk, no damage unseen, a new master key without a new file."""

from __future__ import annotations

import io
import itertools
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import Corrupt, NotFound, Unavailable
from postroom.platform.embedded._encryption import CHUNK_BYTES, ObjectEncryption, decrypted, encrypted
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from tests.fakes.clock import ManualClock

KEY = bytes(range(32))
SECRET = b"ada@example.com,Ada\r\n"
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5]


def content(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def stored(raw: bytes, pieces: int = 100_003) -> bytes:
    return b"".join(encrypted((raw[at : at + pieces] for at in range(0, len(raw), pieces)), KEY))


def plain(raw: bytes, size: int) -> bytes:
    return decrypted(io.BytesIO(raw), KEY, key="key", size=size).read()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pieces", [7_000, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES])
def test_however_it_comes_in_it_is_stored_as_the_same_and_comes_back(size: int, pieces: int) -> None:
    raw = content(size)
    assert stored(raw, pieces) == stored(raw)
    assert plain(stored(raw), size) == raw
    assert len(stored(raw)) == size + 16 * max(1, -(-size // CHUNK_BYTES))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4 * CHUNK_BYTES), st.integers(0, 2 * CHUNK_BYTES)), max_size=5))
def test_any_range_is_what_it_is_in_the_plain_content(ranges: list[tuple[int, int]]) -> None:
    raw = content(3 * CHUNK_BYTES + 5)
    reading = decrypted(io.BytesIO(stored(raw)), KEY, key="key", size=len(raw))
    for start, length in ranges:
        reading.seek(start)
        assert reading.read(length) == raw[start : start + length]


def test_a_range_reads_only_its_chunks() -> None:
    raw = content(10 * CHUNK_BYTES)
    broken = bytearray(stored(raw))
    broken[4 * (CHUNK_BYTES + 16)] ^= 1
    reading = decrypted(io.BytesIO(bytes(broken)), KEY, key="key", size=len(raw))
    reading.seek(6 * CHUNK_BYTES + 5)
    assert reading.read(10) == raw[6 * CHUNK_BYTES + 5 :][:10]
    reading.seek(4 * CHUNK_BYTES)
    with pytest.raises(Corrupt):
        reading.read(10)


STORED_CHUNK = CHUNK_BYTES + 16

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "cut in a chunk": lambda raw: raw[:-1],
    "cut between chunks": lambda raw: raw[: 2 * STORED_CHUNK],
    "nothing": lambda raw: b"",
    "more": lambda raw: raw + b"x",
    "swapped": lambda raw: raw[STORED_CHUNK : 2 * STORED_CHUNK] + raw[:STORED_CHUNK] + raw[2 * STORED_CHUNK :],
    "repeated": lambda raw: raw[:STORED_CHUNK] + raw[:STORED_CHUNK] + raw[2 * STORED_CHUNK :],
    "a chunk left out": lambda raw: raw[:STORED_CHUNK] + raw[2 * STORED_CHUNK :],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_was_damaged_cut_off_added_swapped_or_repeated_is_corrupt(damage: Callable[[bytes], bytes]) -> None:
    raw = content(3 * CHUNK_BYTES + 5)
    with pytest.raises(Corrupt):
        plain(damage(stored(raw)), len(raw))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 4, 3 * CHUNK_BYTES + 6, 9 * CHUNK_BYTES])
def test_content_that_was_cut_together_with_its_size_is_corrupt(size: int) -> None:
    raw = stored(content(3 * CHUNK_BYTES + 5))
    for cut in (raw, raw[: size + 16 * max(1, -(-size // CHUNK_BYTES))]):
        with pytest.raises(Corrupt):
            decrypted(io.BytesIO(cut), KEY, key="key", size=size).read(max(size, 1))


class Store:
    """A store that encrypts what is under `secret/`, with the master keys beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.start()

    def start(self) -> None:
        """As a new process."""
        self.keys = KeyFile(self.root / "master.key", self.clock)
        self.sealing = ObjectEncryption(MasterSecrets(self.keys), lambda key: key.startswith("secret/"))

    def lose_keys(self) -> None:
        (self.root / "master.key").unlink()
        self.start()

    def open(self, *, sealing: bool = True) -> closing[FileObjects]:
        return closing(FileObjects(self.root / "objects", self.clock, sealing=self.sealing if sealing else None))

    def on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted((self.root / "objects").rglob("*")) if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_nothing_of_it_is_readable_on_disk_and_of_others_it_is(store: Store) -> None:
    with store.open() as objects:
        for key in ("secret/small", "secret/large"):
            raw = SECRET * (10_000 if key.endswith("large") else 3)
            objects.put(key, raw)
            assert objects.get(key) == raw
        assert SECRET.strip() not in store.on_disk()
        objects.put("open/large", SECRET * 10_000)
        assert SECRET.strip() in store.on_disk()


def test_what_was_stored_in_clear_is_read_as_it_is(store: Store) -> None:
    with store.open(sealing=False) as objects:
        old = [objects.put(key, SECRET * count) for key, count in itertools.product(("secret/a", "open/a"), (1, 10_000))]
    with store.open() as objects:
        assert [objects.get(info.key, info.version) for info in old] == [SECRET, SECRET * 10_000] * 2
        objects.put("secret/a", SECRET)
        assert objects.get("secret/a") == SECRET


def test_without_the_master_key_it_is_not_read_and_not_taken_for_damaged(store: Store) -> None:
    with store.open() as objects:
        objects.put("secret/a", SECRET)
    with store.open(sealing=False) as objects, pytest.raises(Unavailable):
        objects.get("secret/a")
    store.lose_keys()
    with store.open() as objects, pytest.raises(Corrupt, match=r"secret/a cannot be decrypted.*master key"):
        objects.get("secret/a")


def test_content_moved_to_the_place_of_another_is_corrupt(store: Store) -> None:
    with store.open() as objects:
        objects.put("secret/a", SECRET * 10_000)
        objects.put("secret/b", SECRET * 10_000)
    with closing(sqlite3.connect(store.root / "objects" / "objects.db")) as index, index:
        index.execute("UPDATE version SET key = 'secret/c' WHERE key = 'secret/a'")
        index.execute("UPDATE current SET key = 'secret/c' WHERE key = 'secret/a'")
        (first, second) = [file for (file,) in index.execute("SELECT file FROM version ORDER BY id")]
    with store.open() as objects, pytest.raises(Corrupt):
        objects.get("secret/c")
    files = {path.name: path for path in (store.root / "objects" / "files").rglob("*") if path.is_file()}
    files[second].write_bytes(files[first].read_bytes())
    with store.open() as objects, pytest.raises(Corrupt):
        objects.get("secret/b")


def test_after_a_rotation_every_version_is_under_the_newest_key_and_no_file_has_changed(store: Store) -> None:
    with store.open() as objects:
        old = [objects.put(f"secret/{n}", SECRET * (10_000 if n == 0 else 1)) for n in range(1_200)]
        files = [path for path in (store.root / "objects" / "files").rglob("*") if path.is_file()]
        before = [path.stat().st_mtime_ns for path in files]
        store.keys.add()
        new = objects.put("secret/new", SECRET)
        objects.delete("secret/7")
        assert objects.reseal() == (1_200, 0)
        assert objects.reseal() == (0, 0)
        store.clock.advance(25 * 3_600)
        store.keys.drop_older()
        assert all(objects.get(info.key, info.version) for info in (*old, new))
        assert objects.info("secret/0") == old[0]
        assert [path.stat().st_mtime_ns for path in files] == before


def test_what_cannot_be_wrapped_again_is_left_and_counted(store: Store) -> None:
    with store.open() as objects:
        objects.put("secret/lost", SECRET)
    store.lose_keys()
    with store.open() as objects:
        objects.put("secret/kept", SECRET)
        store.keys.add()
        assert objects.reseal() == (1, 1)
        assert objects.get("secret/kept") == SECRET


def test_a_purged_version_leaves_no_key_behind(store: Store) -> None:
    with store.open() as objects:
        objects.put("secret/a", SECRET)
        objects.purge("secret/")
        with pytest.raises(NotFound):
            objects.get("secret/a")
    with closing(sqlite3.connect(store.root / "objects" / "objects.db")) as index:
        assert index.execute("SELECT count(*) FROM sealing").fetchone() == (0,)


def test_memory_does_not_grow_with_the_content(store: Store) -> None:
    def large() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    with store.open() as objects:
        tracemalloc.start()
        objects.put("secret/large", large())
        with objects.open("secret/large") as reading:
            while reading.read(1 << 20):
                pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 << 20
