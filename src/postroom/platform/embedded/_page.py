"""A journal's page as a file in memory: writing a line is copying bytes, it waits for nothing and lets no other thread in.

What is copied is the kernel's at once, so it survives the process. The room for it is taken beforehand, and with each hand-over
the room for its answer: so a disk that fills up stops the next hand-over and never loses an answer. Unused room is zeros.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import orjson

from postroom.model.message import Settlement
from postroom.model.shard import Key
from postroom.platform.embedded._files import disk_errors

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
