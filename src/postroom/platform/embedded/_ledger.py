"""The ledger files: one SQLite database a campaign, so campaigns share no lock and deleting one is deleting a file.

    message   what was imported, never changed: the wide part, written once
    outcome   how each message stands since something was tried: the narrow part, rewritten a group at a time
    batch     lease, fence, open group and the last count of each batch
    event     what happened to a message, one row each: its timeline
    feed      one row a write, in the same transaction

Messages and outcomes are clustered by (batch, key), so a worker's group is a run of neighbouring pages. A message without
an outcome is pending: importing writes no state, and recording 128 outcomes touches three pages instead of a dozen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from postroom.errors import Invalid, NotFound
from postroom.model.campaign import CampaignRef
from postroom.platform.embedded._sqlite import SIDE_FILES, Database, remove_database

_OPEN_FILES = 32
_CACHE_KIB = 32_768

MIGRATIONS = (
    """
    CREATE TABLE campaign (batches INTEGER NOT NULL) STRICT;

    CREATE TABLE message (
        batch    INTEGER NOT NULL,
        key      BLOB    NOT NULL,
        line     INTEGER NOT NULL,
        address  TEXT    NOT NULL,
        name     TEXT,
        cells    TEXT    NOT NULL,  -- JSON array, in the order of the campaign's columns
        PRIMARY KEY (batch, key)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE outcome (
        batch       INTEGER NOT NULL,
        key         BLOB    NOT NULL,
        state       INTEGER NOT NULL,  -- model.message.MessageState
        attempt     INTEGER NOT NULL,
        at          INTEGER NOT NULL,
        due         INTEGER,
        code        INTEGER NOT NULL,
        reply       TEXT    NOT NULL,
        provider_id TEXT,
        PRIMARY KEY (batch, key)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE batch (
        number      INTEGER PRIMARY KEY,
        fence       INTEGER NOT NULL DEFAULT 0,
        owner       TEXT,
        lease_until INTEGER,
        group_owner TEXT,
        group_fence INTEGER,
        group_keys  BLOB,              -- 12 bytes a key; NULL: no open group
        group_at    INTEGER,
        next_due    INTEGER,           -- 0: now; NULL: never
        unsettled   INTEGER NOT NULL DEFAULT 0,
        pending     INTEGER NOT NULL DEFAULT 0,
        deferred    INTEGER NOT NULL DEFAULT 0,
        sent        INTEGER NOT NULL DEFAULT 0,
        delivered   INTEGER NOT NULL DEFAULT 0,
        bounced     INTEGER NOT NULL DEFAULT 0,
        complained  INTEGER NOT NULL DEFAULT 0,
        failed      INTEGER NOT NULL DEFAULT 0,
        unknown     INTEGER NOT NULL DEFAULT 0,
        skipped     INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX batch_due ON batch (next_due) WHERE next_due IS NOT NULL;
    CREATE INDEX batch_open ON batch (number) WHERE owner IS NOT NULL OR group_keys IS NOT NULL;

    CREATE TABLE feed (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        at       INTEGER NOT NULL,
        batch    INTEGER,              -- NULL: rows stored by an import, of many batches
        changes  TEXT    NOT NULL      -- JSON, see feed.py
    ) STRICT;
    """,
    # What comes back, beside the outcome (model.news). `at` 0: nothing was settled yet, the row is there for its news.
    """
    ALTER TABLE outcome ADD COLUMN told_state   INTEGER;
    ALTER TABLE outcome ADD COLUMN told_attempt INTEGER;
    ALTER TABLE outcome ADD COLUMN told_at      INTEGER;
    ALTER TABLE outcome ADD COLUMN told_reply   TEXT;
    ALTER TABLE outcome ADD COLUMN opened       INTEGER;
    ALTER TABLE outcome ADD COLUMN clicked      INTEGER;
    ALTER TABLE outcome ADD COLUMN unsubscribed INTEGER;
    ALTER TABLE outcome ADD COLUMN resubscribed INTEGER;
    ALTER TABLE outcome ADD COLUMN events       INTEGER;

    CREATE TABLE event (
        number  INTEGER PRIMARY KEY,
        batch   INTEGER NOT NULL,
        key     BLOB    NOT NULL,
        id      TEXT    NOT NULL,
        told    TEXT    NOT NULL,      -- JSON, see model/event_text.py
        UNIQUE (batch, key, id)
    ) STRICT;

    ALTER TABLE batch ADD COLUMN heard        INTEGER NOT NULL DEFAULT 0;  -- 1: some of its messages have news
    ALTER TABLE batch ADD COLUMN stale        INTEGER NOT NULL DEFAULT 0;  -- 1: some of them since it was counted
    ALTER TABLE batch ADD COLUMN opened       INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE batch ADD COLUMN clicked      INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE batch ADD COLUMN unsubscribed INTEGER NOT NULL DEFAULT 0;
    DROP INDEX batch_open;
    CREATE INDEX batch_moved ON batch (number) WHERE owner IS NOT NULL OR group_keys IS NOT NULL OR stale;
    """,
)


class _Opened(NamedTuple):
    """An open file, and which one it is: another process may drop the campaign, and make it anew, under our hands."""

    database: Database
    identity: tuple[int, int] | None


class Ledgers:
    """The open ledger files of this process. Threads may share it; it is not for use across a fork."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[CampaignRef, _Opened] = OrderedDict()
        self._guard = threading.Lock()

    def create(self, ref: CampaignRef) -> Database:
        """The home's file, made if need be."""
        with self._guard:
            return self._database(ref)

    def get(self, ref: CampaignRef) -> Database:
        """The home's file; `NotFound`."""
        with self._guard:
            if _identity(self._path(ref)) is None:
                self._let_go(ref)
                raise NotFound(f"there are no messages of campaign {ref.campaign}")
            return self._database(ref)

    def drop(self, ref: CampaignRef) -> None:
        """Close and delete the home's file; absent: harmless."""
        with self._guard:
            self._let_go(ref)
            remove_database(self._path(ref))

    def refs(self) -> list[CampaignRef]:
        """All homes on disk."""
        files = self._root.glob("*/*.db")
        return [CampaignRef(path.parent.name, path.stem) for path in files if not path.name.endswith(SIDE_FILES)]

    def close(self) -> None:
        """Close every file."""
        with self._guard:
            while self._open:
                self._open.popitem()[1].database.close()

    def _let_go(self, ref: CampaignRef) -> None:
        opened = self._open.pop(ref, None)
        if opened is not None:
            opened.database.close()

    def _database(self, ref: CampaignRef) -> Database:
        path = self._path(ref)
        opened = self._open.get(ref)
        if opened is not None and opened.identity == _identity(path):
            self._open.move_to_end(ref)
            return opened.database
        self._let_go(ref)
        database = Database(path, MIGRATIONS, cache_kib=_CACHE_KIB)
        self._open[ref] = _Opened(database, _identity(path))
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].database.close()
        return database

    def _path(self, ref: CampaignRef) -> Path:
        for part in ref:
            if not part.replace("-", "").isalnum() or not part.isascii():
                raise Invalid(f"{part!r} is no id of a tenant or campaign")
        return self._root / ref.tenant / f"{ref.campaign}.db"


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has this name now; None: no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
