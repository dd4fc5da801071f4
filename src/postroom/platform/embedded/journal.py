"""Journals (ports.journal) as files: a folder a worker, in it a lock that lives as long as its process, and a file a page.

    <root>/<campaign>/<owner>/lock            held exclusively while the owner lives; says which boot it belongs to
    <root>/<campaign>/<owner>/<batch>-<fence> one line a hand-over (H) and one an answer (A); S: sealed

The kernel drops the lock when the process ends, however it ends, and only after that can nothing more leave its sockets'
owner: what was written to them by then was journalled before. So a free lock proves that the page is the whole truth.
After a power cut the page may lack lines: it is trusted only within the boot it was written in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from postroom.clock import Clock
from postroom.model.message import MessageStatus, Settlement
from postroom.model.shard import Key
from postroom.platform.embedded._files import disk_errors, storage_error
from postroom.platform.embedded._page import ANSWERED, HANDED, SEALED, FilePage
from postroom.platform.ports.journal import Handed, Trace

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_ASK_BOOT_ID: Final = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")  # macOS, which has no /proc
_ASK_S = 5.0
_LOCK = "lock"
_NEWBORN = "new."


class FileJournal:
    """See ports.journal.Journal."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock

    @property
    def owner(self) -> str:
        return self._folder.name

    def page(self, batch: int, fence: int) -> FilePage:
        return FilePage(self._folder / f"{batch}-{fence}")

    def close(self) -> None:
        with disk_errors(self._folder):
            if not any(file.name != _LOCK for file in self._folder.iterdir()):  # pages that are left need their lock
                shutil.rmtree(self._folder)
        os.close(self._lock)


class FileJournals:
    """See ports.journal.Journals."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def begin(self, campaign: str) -> FileJournal:
        owner = f"{os.getpid()}-{self._clock.random(8).hex()}"
        newborn = self._root / campaign / (_NEWBORN + owner)
        folder = self._root / campaign / owner
        with disk_errors(folder):
            newborn.mkdir(parents=True)
            lock = os.open(newborn / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.write(lock, _boot_id())
            newborn.rename(folder)  # nobody sees the folder before its lock is held
        return FileJournal(folder, lock)

    def read(self, campaign: str, owner: str, batch: int, fence: int) -> Handed | Trace:
        folder = self._root / campaign / owner
        if not folder.is_dir():
            return Trace.LOST
        dead = _is_dead(folder)  # before the page is read: what a dead owner wrote is all there by then
        lines = _lines(folder / f"{batch}-{fence}")
        if not dead and SEALED not in lines:
            return Trace.ALIVE
        if not lines or not _same_boot(folder):
            return Trace.LOST
        return _handed(lines)

    def dead(self, campaign: str) -> list[str]:
        with disk_errors(self._root):
            folders = [each for each in (self._root / campaign).glob("*") if each.is_dir()]
        return [folder.name for folder in folders if not folder.name.startswith(_NEWBORN) and _is_dead(folder)]

    def forget(self, campaign: str, owner: str) -> None:
        folder = self._root / campaign / owner
        if folder.is_dir() and _is_dead(folder):
            _remove(folder)  # half gone is gone: without its lock it reads as lost

    def drop(self, campaign: str) -> None:
        _remove(self._root / campaign)


def _remove(folder: Path) -> None:
    with disk_errors(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _lines(page: Path) -> list[bytes]:
    """Of a page, without the room it has left; empty where there is none."""
    with disk_errors(page), suppress(FileNotFoundError):
        return page.read_bytes().rstrip(b"\0").split(b"\n")
    return []


def _is_dead(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look at once do not see each other
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


@cache
def _boot_id() -> bytes:
    """What changes with every boot, but not while this process lives; a system that does not tell is never trusted after a
    crash."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return _asked_boot_id()


def _asked_boot_id() -> bytes:
    try:
        asked = subprocess.run(
            _ASK_BOOT_ID, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_ASK_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return b""
    return asked.stdout.strip()


def _same_boot(folder: Path) -> bool:
    try:
        written = (folder / _LOCK).read_bytes()
    except FileNotFoundError:
        return False
    return bool(written) and written == _boot_id()


def _handed(lines: list[bytes]) -> Handed:
    """The last line of a key counts: a page that is open for long sees a deferred message handed over again."""
    in_flight: set[Key] = set()
    answered: dict[Key, Settlement] = {}
    for line in lines:
        if line[:1] == HANDED and len(line) == 25:
            key = Key(bytes.fromhex(line[1:].decode()))
            in_flight.add(key)
            answered.pop(key, None)
        elif line[:1] == ANSWERED:
            with suppress(orjson.JSONDecodeError):  # torn by a full disk: then its answer is not known
                settlement = _settlement(orjson.loads(line[1:]))
                in_flight.discard(settlement.key)
                answered[settlement.key] = settlement
    return Handed(frozenset(in_flight), answered)


def _settlement(fields: list[Any]) -> Settlement:
    key, state, *rest = fields
    return Settlement(Key(bytes.fromhex(key)), MessageStatus(state), *rest)
