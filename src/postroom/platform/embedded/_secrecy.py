"""What of an installation is not encrypted that should be, and whether the master key is kept from others: for `doctor`.

Looks only: makes no key, opens no store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from postroom.model.finding import Finding, Level
from postroom.platform.embedded._master_key import GivenKeys, KeyFile
from postroom.platform.embedded._sqlite import database_error

_KEY = "master key"
_OBJECTS = "objects"


class _Objects(NamedTuple):
    """Versions in the object store."""

    sealed: int
    clear: int
    """Of those that would be encrypted today."""


def examine_secrecy(keys: GivenKeys | KeyFile, path: Path, *, index: Path, applies: Callable[[str], bool]) -> Iterator[Finding]:
    """Every finding. `path`: where the key is, for people; `index`: the object store's. `Unavailable`: others may use the
    key; `Corrupt`: it is none."""
    objects = _count(index, applies) if index.exists() else _Objects(0, 0)
    yield from _key(keys, path, objects)
    if objects.clear:
        text = f"{objects.clear:,} files with people in them are from an earlier release and not encrypted"
        todo = "delete their campaigns when they are over, or keep the data directory on an encrypted disk"
        yield Finding(_OBJECTS, Level.WARN, text, todo)
    else:
        yield Finding(_OBJECTS, Level.OK, f"uploads, recipients and reports are encrypted ({objects.sealed:,} files)")


def _key(keys: GivenKeys | KeyFile, path: Path, objects: _Objects) -> Iterator[Finding]:
    known = keys.all()
    if isinstance(keys, GivenKeys):
        yield Finding(_KEY, Level.OK, "from POSTROOM_MASTER_KEY; it is in no backup", "keep a copy of it elsewhere")
    elif not known and objects.sealed:
        text = f"{path} is missing, and {objects.sealed:,} files are encrypted under it"
        yield Finding(_KEY, Level.FAIL, text, "bring it back from your copy, or set POSTROOM_MASTER_KEY_FILE to where it is")
    elif not known:
        yield Finding(_KEY, Level.OK, f"{path} (not there yet: made when it is first needed)")
    else:
        yield Finding(_KEY, Level.OK, f"{path}", "keep a copy elsewhere: what it encrypts is lost without it")
    if len(known) > 1:
        text = f"{len(known)} are kept: the newest, and what older ones still open"
        yield Finding(_KEY, Level.OK, text, "postroom secrets drop-old, when nothing needs them any more")


def _count(index: Path, applies: Callable[[str], bool]) -> _Objects:
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "version" not in tables:
                return _Objects(0, 0)
            if "sealing" not in tables:  # not opened since the release that encrypts
                return _Objects(0, sum(applies(key) for (key,) in connection.execute("SELECT key FROM version")))
            (sealed,) = connection.execute("SELECT count(*) FROM sealing").fetchone()
            clear = connection.execute("SELECT key FROM version WHERE id NOT IN (SELECT version FROM sealing)")
            return _Objects(sealed, sum(applies(key) for (key,) in clear))
    except sqlite3.Error as error:
        raise database_error(error, index) or error from error
