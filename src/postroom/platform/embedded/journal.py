"""A journal's page as a file in memory: writing a line is copying bytes, it waits for nothing and lets no other thread in.

What is copied is the kernel's at once, so it survives the process. The room for it is taken beforehand, and with each hand-over
the room for its answer: so a disk that fills up stops the next hand-over and never loses an answer. Unused room is zeros.

Journals (ports.journal) as files: a folder a worker, in it a lock that lives as long as its process, and a file a page.

    <root>/<campaign>/<owner>/lock            held exclusively while the owner lives; says which boot it belongs to
    <root>/<campaign>/<owner>/<batch>-<fence> one line a hand-over (H) and one an answer (A); S: sealed

The kernel drops the lock when the process ends, however it ends, and only after that can nothing more leave its sockets'
owner: what was written to them by then was journalled before. So a free lock proves that the page is the whole truth.
After a power cut the page may lack lines: it is trusted only within the boot it was written in.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from postroom.clock import Clock
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Settlement
from postroom.platform.embedded._files import disk_errors, storage_error
from postroom.platform.ports.journal import Handed, Trace

HANDED, ANSWERED, SEALED = b"H", b"A", b"S"
_ROOM = 131_072  # for the 500 messages of a batch, about
_ANSWER_ROOM = 2_048  # a reply is at most 250 characters
_SEAL_ROOM = 64


class FilePage:
    """See ports.journal.Page."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = self._room = 0
        self._in_flight: set[Key] = set()
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._take_room()

    def handing(self, key: Key) -> None:
        line = HANDED + key.hex().encode() + b"\n"
        self._in_flight.add(key)
        try:
            self._write(line, _ANSWER_ROOM * len(self._in_flight))
        except BaseException:
            self._in_flight.discard(key)
            raise

    def answered(self, settlement: Settlement) -> None:
        line = ANSWERED + orjson.dumps([settlement.key.hex(), *settlement[1:]]) + b"\n"
        self._in_flight.discard(settlement.key)
        self._write(line, 0)

    def seal(self) -> None:
        self._write(SEALED + b"\n", -_SEAL_ROOM)
        self._let_go()

    def close(self) -> None:
        self._let_go()
        with disk_errors(self._path):
            self._path.unlink(missing_ok=True)

    def _write(self, line: bytes, reserve: int) -> None:
        end = self._end + len(line)
        while end + reserve + _SEAL_ROOM > self._room:
            self._take_room()
        self._map[self._end : end] = line
        self._end = end

    def _take_room(self) -> None:
        with disk_errors(self._path):
            written = os.pwrite(self._file, bytes(_ROOM), self._room)
            if written < _ROOM:  # it ends where the disk does: this says so
                os.pwrite(self._file, bytes(_ROOM - written), self._room + written)
            self._room += _ROOM
            self._map = mmap.mmap(self._file, self._room)

    def _let_go(self) -> None:
        self._map.close()
        os.close(self._file)


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
