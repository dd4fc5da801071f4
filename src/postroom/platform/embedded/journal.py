"""`ports.journal` as files: a directory for each worker, with a lock that lives as long as its process and a file for each page.

    <root>/<campaign>/<owner>/lock            held exclusively while the owner lives; contains the boot id
    <root>/<campaign>/<owner>/<batch>-<fence> one line for each hand-over (H) and each answer (A); S: sealed

The kernel releases the lock when the process ends, however it ends, and only after that nothing more can leave its
sockets: everything written to them by then was journalled before. So a free lock proves that the page is complete.
After a power cut the page may lack lines: it is trusted only within the boot it was written in.

A page is a memory-mapped file: writing a line is copying bytes, without a system call and without releasing the interpreter lock.
Copied bytes are in the kernel at once, so they survive the process. Space is allocated beforehand, and each hand-over also
reserves the space for its answer: a disk that fills up stops the next hand-over and never loses an answer. Unused space is zeros.
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
    """A `ports.journal.JournalPage` in a memory-mapped file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = self._room = 0
        self._in_flight: set[Key] = set()
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._allocate()

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
        self._unmap()

    def close(self) -> None:
        self._unmap()
        with disk_errors(self._path):
            self._path.unlink(missing_ok=True)

    def _write(self, line: bytes, reserve: int) -> None:
        end = self._end + len(line)
        while end + reserve + _SEAL_ROOM > self._room:
            self._allocate()
        self._map[self._end : end] = line
        self._end = end

    def _allocate(self) -> None:
        with disk_errors(self._path):
            written = os.pwrite(self._file, bytes(_ROOM), self._room)
            if written < _ROOM:  # the disk is full: the second write raises the error
                os.pwrite(self._file, bytes(_ROOM - written), self._room + written)
            self._room += _ROOM
            self._map = mmap.mmap(self._file, self._room)

    def _unmap(self) -> None:
        self._map.close()
        os.close(self._file)


_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_ASK_BOOT_ID: Final = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")  # macOS, which has no /proc
_ASK_S = 5.0
_LOCK = "lock"
_NEWBORN = "new."


class FileJournal:
    """A `ports.journal.Journal` in one directory."""

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
            if not any(file.name != _LOCK for file in self._folder.iterdir()):  # remaining pages need their lock
                shutil.rmtree(self._folder)
        os.close(self._lock)


class FileJournals:
    """`ports.journal.Journals` in a directory."""

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
            newborn.rename(folder)  # the folder is visible only once its lock is held
        return FileJournal(folder, lock)

    def read(self, campaign: str, owner: str, batch: int, fence: int) -> Handed | Trace:
        folder = self._root / campaign / owner
        if not folder.is_dir():
            return Trace.LOST
        dead = _is_dead(folder)  # before the page is read: a dead owner's lines are complete by then
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
            _remove(folder)  # a partly deleted journal reads as lost, without its lock

    def drop(self, campaign: str) -> None:
        _remove(self._root / campaign)


def _remove(folder: Path) -> None:
    with disk_errors(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _lines(page: Path) -> list[bytes]:
    """The page's lines, without unused space. Empty if there is no page."""
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
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two processes may check at once
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


@cache
def _boot_id() -> bytes:
    """An id that changes with each boot. Empty if the system has none: then no page is trusted after a crash."""
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
    """The last line of a key counts: a deferred message may be handed over again on the same page."""
    in_flight: set[Key] = set()
    answered: dict[Key, Settlement] = {}
    for line in lines:
        if line[:1] == HANDED and len(line) == 25:
            key = Key(bytes.fromhex(line[1:].decode()))
            in_flight.add(key)
            answered.pop(key, None)
        elif line[:1] == ANSWERED:
            with suppress(orjson.JSONDecodeError):  # cut by a full disk: the answer is not known
                settlement = _settlement(orjson.loads(line[1:]))
                in_flight.discard(settlement.key)
                answered[settlement.key] = settlement
    return Handed(frozenset(in_flight), answered)


def _settlement(fields: list[Any]) -> Settlement:
    key, state, *rest = fields
    return Settlement(Key(bytes.fromhex(key)), MessageStatus(state), *rest)
