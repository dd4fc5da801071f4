"""What a killed writer, a full disk or a damaged file leaves in the object store on disk."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postroom.clock import SystemClock
from postroom.errors import Corrupt, StorageFull, Unavailable
from postroom.platform.embedded import _object_files
from postroom.platform.embedded._files import FileLock
from postroom.platform.embedded.objects import FileObjects

BIG = b"0123456789" * 30_000
ROOT = Path(__file__).resolve().parents[2]

KILLED_WHILE_READING = """
def content():
    yield b"new" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)
objects.put("key", content())
"""

KILLED_BEFORE_THE_COMMIT = """
place = ObjectFiles.place
def place_and_die(self, staged, name):
    place(self, staged, name)
    os.kill(os.getpid(), signal.SIGKILL)
ObjectFiles.place = place_and_die
objects.put("key", b"new" * 100_000)
"""

KILLED_AFTER_THE_COMMIT = """
objects.put("key", b"new" * 100_000)
os.kill(os.getpid(), signal.SIGKILL)
"""

PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
from postroom.clock import SystemClock
from postroom.errors import StorageFull
from postroom.platform.embedded._object_files import ObjectFiles
from postroom.platform.embedded.objects import FileObjects
objects = FileObjects(Path(sys.argv[1]), SystemClock())
"""

NO_ROOM = """
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for content in (b"new" * 500_000, b"new" * 20_000):
    try:
        for n in range(30):
            objects.put("key" if len(content) > 65_536 else f"small/{n}", content)
    except StorageFull as error:
        print("refused:", error)
print(objects.get("key") == b"old", flush=True)
"""


def run(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a writer of its own on `root`, to its end."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(root)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def files(root: Path) -> list[Path]:
    """Every file of content under the root, staged ones included."""
    return [
        path for path in root.rglob("*") if path.is_file() and not path.name.startswith("objects.db") and path.name != "owner"
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store that holds `key` with the content `old`."""
    objects = FileObjects(tmp_path / "store", SystemClock())
    objects.put("key", b"old")
    objects.close()
    return tmp_path / "store"


@pytest.mark.parametrize("script", [KILLED_WHILE_READING, KILLED_BEFORE_THE_COMMIT], ids=["reading", "committing"])
def test_a_writer_killed_in_the_middle_of_a_put_leaves_the_old_version_and_no_litter(root: Path, script: str) -> None:
    assert run(root, script).returncode == -signal.SIGKILL
    assert len(files(root)) == 1, "the test must leave something to sweep"
    objects = FileObjects(root, SystemClock())
    assert objects.get("key") == b"old"
    assert len(objects.versions("key")) == 1
    assert files(root) == []
    assert len(list((root / "staging").iterdir())) == 1, "only the living one's"
    objects.close()


def test_a_put_that_returned_survives_the_kill(root: Path) -> None:
    assert run(root, KILLED_AFTER_THE_COMMIT).returncode == -signal.SIGKILL
    objects = FileObjects(root, SystemClock())
    assert objects.get("key") == b"new" * 100_000
    assert len(objects.versions("key")) == 2
    objects.close()


def test_starting_sweeps_nothing_of_a_living_writer(root: Path) -> None:
    writer = FileObjects(root, SystemClock())

    class Source(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            FileObjects(root, SystemClock()).close()
            return super().read(size)

    writer.put("big", Source(BIG * 10))
    assert writer.get("big") == BIG * 10
    writer.close()


def test_a_full_disk_is_said_so_and_changes_nothing(root: Path) -> None:
    result = run(root, NO_ROOM)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line.startswith("refused:") for line in lines] == [True, True, False]
    assert lines[-1] == "True"
    objects = FileObjects(root, SystemClock())
    assert objects.get("key") == b"old"
    assert files(root) == []
    for info in objects.list("small/", limit=1_000).objects:
        assert objects.get(info.key) == b"new" * 20_000
    objects.put("key", b"room again")
    objects.close()


def test_damaged_content_is_corrupt_when_read_to_its_end(root: Path) -> None:
    objects = FileObjects(root, SystemClock())
    objects.put("key", BIG)
    (file,) = files(root)
    with file.open("r+b") as raw:
        raw.seek(150_000)
        raw.write(b"X")
    with pytest.raises(Corrupt, match="key"):
        objects.get("key")
    with objects.open("key") as stream, pytest.raises(Corrupt, match="key"):
        list(iter(lambda: stream.read(65_536), b""))
    with file.open("r+b") as raw:
        raw.truncate(1_000)
    with objects.open("key") as stream, pytest.raises(Corrupt, match="key"):
        stream.read()
    file.unlink()
    with pytest.raises(Corrupt, match="missing"):
        objects.get("key")
    objects.close()


def test_purging_removes_the_files(root: Path) -> None:
    objects = FileObjects(root, SystemClock())
    for n in range(3):
        objects.put(f"big/{n}", BIG)
    assert len(files(root)) == 3
    objects.purge("big/")
    assert files(root) == []
    objects.close()
    assert list((root / "staging").iterdir()) == []


def test_a_root_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((StorageFull, Unavailable), match="file"):
        FileObjects(tmp_path / "file" / "store", SystemClock())


def test_a_staging_that_its_owner_removes_while_it_is_swept_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends removes its staging under no lock: just before another looks whether it is alive."""
    ending = FileObjects(tmp_path, SystemClock())
    ended: list[Path] = []

    class Late(FileLock):
        def __init__(self, path: Path) -> None:
            if path.is_file() and not ended:
                ended.append(path)
                ending.close()
            super().__init__(path)

    monkeypatch.setattr(_object_files, "FileLock", Late)
    FileObjects(tmp_path, SystemClock()).close()
    assert len(ended) == 1
