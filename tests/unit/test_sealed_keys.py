"""The master key's file: made once whoever needs it first, kept private, rotated beside readers."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, Invalid, StorageFull, Unavailable
from postroom.platform.embedded.secrets import ConfiguredKeys, KeyFile, MasterSecrets
from tests.fakes.clock import ManualClock

RACER = """
import sys
from pathlib import Path
from postroom.clock import SystemClock
from postroom.platform.embedded.secrets import KeyFile
sys.stdin.readline()
print(KeyFile(Path(sys.argv[1]), SystemClock()).newest().id)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from postroom.clock import SystemClock
from postroom.platform.embedded import secrets
file = secrets.KeyFile(Path(sys.argv[1]), SystemClock())
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
file.add()
"""


def key_file(path: Path, clock: ManualClock | None = None) -> KeyFile:
    return KeyFile(path / "master.key", clock or ManualClock())


def test_the_file_is_made_when_it_is_needed_and_only_its_owner_may_use_it(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        secrets = MasterSecrets(key_file(tmp_path))
        assert not (tmp_path / "master.key").exists()
        with pytest.raises(Corrupt):
            secrets.open("purpose", MasterSecrets(ConfiguredKeys("A" * 43 + "=")).seal("purpose", b"x"))
        assert not (tmp_path / "master.key").exists()
        secrets.seal("purpose", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600


def test_processes_that_race_for_the_first_key_get_the_same_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "master.key")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = {racer.communicate("go\n", timeout=30)[0].strip() for racer in racers}
    assert ids == {key_file(tmp_path).newest().id}


def test_threads_with_files_of_their_own_get_the_same_first_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: key_file(tmp_path).newest().id, range(8)))
    assert len(ids) == 1


def test_a_writer_that_is_killed_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    before = key_file(tmp_path).newest()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "master.key")]
    assert subprocess.run(command, check=False, timeout=30).returncode == -signal.SIGKILL
    assert [key.id for key in key_file(tmp_path).all()] == [before.id]
    added = key_file(tmp_path).add()
    assert [key.id for key in key_file(tmp_path).all()] == [added.id, before.id]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    secrets = MasterSecrets(key_file(tmp_path))
    sealed = secrets.seal("purpose", b"x")
    (tmp_path / "master.key").chmod(mode)
    for call in (lambda: secrets.open("purpose", sealed), lambda: secrets.seal("purpose", b"x")):
        with pytest.raises(Unavailable, match="chmod 600"):
            call()
    (tmp_path / "master.key").chmod(0o600)
    assert secrets.open("purpose", sealed) == b"x"


def test_a_file_that_goes_away_is_waited_for_and_not_replaced(tmp_path: Path) -> None:
    """Such as one on a disk that is not mounted at the moment."""
    keys = key_file(tmp_path)
    secrets = MasterSecrets(keys)
    sealed = secrets.seal("purpose", b"x")
    (tmp_path / "master.key").rename(tmp_path / "elsewhere")
    for call in (lambda: secrets.seal("purpose", b"y"), lambda: secrets.open("purpose", sealed), keys.add):
        with pytest.raises(Unavailable, match="was deleted"):
            call()
    assert not (tmp_path / "master.key").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "master.key")
    assert secrets.open("purpose", sealed) == b"x"


def test_an_older_key_opens_a_new_one_seals_also_in_a_process_that_was_running(tmp_path: Path) -> None:
    running = MasterSecrets(key_file(tmp_path))
    old, wrapped = running.seal("purpose", b"x"), running.new_key("purpose")
    key_file(tmp_path).add()
    assert not running.is_current(old)
    assert not running.is_current(wrapped.wrapped)
    assert running.open("purpose", old) == b"x"
    assert running.unwrap("purpose", wrapped.wrapped) == wrapped.plain
    assert running.is_current(running.seal("purpose", b"x"))
    assert running.is_current(running.rewrap("purpose", wrapped.wrapped))


def test_what_was_sealed_under_a_dropped_key_is_corrupt_and_names_the_key(tmp_path: Path) -> None:
    clock = ManualClock()
    secrets = MasterSecrets(key_file(tmp_path, clock))
    sealed, old = secrets.seal("purpose", b"x"), key_file(tmp_path).newest()
    key_file(tmp_path, clock).add()
    clock.advance(25 * 3_600)
    assert key_file(tmp_path, clock).drop_older() == 1
    with pytest.raises(Corrupt, match=old.id):
        secrets.open("purpose", sealed)


def test_an_older_key_is_kept_while_somebody_may_be_storing_under_it(tmp_path: Path) -> None:
    clock = ManualClock()
    keys = key_file(tmp_path, clock)
    keys.newest()
    assert keys.drop_older() == 0
    clock.advance(100_000)
    keys.add()
    clock.advance(25 * 3_600 - 1)
    with pytest.raises(Conflict, match="in 1 h"):
        keys.drop_older()
    assert len(keys.all()) == 2
    clock.advance(1)
    assert keys.drop_older() == 1
    assert len(keys.all()) == 1


def test_a_file_made_by_hand_is_taken(tmp_path: Path) -> None:
    plain = os.urandom(32)
    path = tmp_path / "master.key"
    path.write_bytes(b"# mine\n\n" + base64.b64encode(plain) + b"\n")
    path.chmod(0o600)
    assert key_file(tmp_path).newest().plain == plain
    assert len(key_file(tmp_path).all()) == 1


@pytest.mark.parametrize("text", ["", "# only\n", "c2hvcnQ=\n", "not base64!\n", "A" * 43 + "= yesterday\n", "é" * 44])
def test_a_damaged_file_is_corrupt_does_not_show_what_it_holds_and_is_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    for call in (key_file(tmp_path).newest, key_file(tmp_path).add):
        with pytest.raises(Corrupt) as raised:
            call()
        assert not text.strip() or text.strip() not in str(raised.value)
    assert path.read_text("utf-8") == text


def test_a_key_that_cannot_be_kept_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    secrets = MasterSecrets(key_file(tmp_path))
    with monkeypatch.context() as faults:
        faults.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            secrets.seal("purpose", b"x")
    assert not (tmp_path / "master.key").exists()
    assert secrets.open("purpose", secrets.seal("purpose", b"x")) == b"x"


def test_given_keys_the_first_seals_and_all_open() -> None:
    first, second = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    old = MasterSecrets(ConfiguredKeys(second)).seal("purpose", b"x")
    both = MasterSecrets(ConfiguredKeys(f"{first}, {second}"))
    assert both.open("purpose", old) == b"x"
    assert not both.is_current(old)
    assert MasterSecrets(ConfiguredKeys(first)).open("purpose", both.seal("purpose", b"y")) == b"y"


@pytest.mark.parametrize("text", ["", "c2hvcnQ=", "?", f"{'A' * 43}=,"])
def test_what_is_no_key_is_invalid_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        ConfiguredKeys(text)
    assert not text or text not in str(raised.value)


@pytest.mark.parametrize("shown", [repr, str])
def test_a_key_does_not_show(tmp_path: Path, shown: Callable[[object], str]) -> None:
    key = key_file(tmp_path).newest()
    assert repr(key.plain)[2:-1] not in shown(key)
