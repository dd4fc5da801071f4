"""The control database: tables, queues, timers and workflows in one file, so that one transaction can span them.

A timer that fires and the item it puts on a queue are one commit. Messages live elsewhere (a ledger a campaign).
"""

from __future__ import annotations

from pathlib import Path

from postroom.platform.embedded._sqlite import Database

CONTROL_FILE = "control.db"

_TABLES = """
-- Sort keys are UTF-8 as a blob: compared byte by byte, and a prefix is a range.
CREATE TABLE item (
    partition  TEXT    NOT NULL,
    sort       BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER,
    data       TEXT    NOT NULL,
    PRIMARY KEY (partition, sort)
) STRICT, WITHOUT ROWID;

CREATE INDEX item_by_expiry ON item (expires_at) WHERE expires_at IS NOT NULL;
"""

_QUEUES = """
-- `fence` counts leasings and is never set back; `visible_at` is the end of a delay or of a lease.
-- AUTOINCREMENT: an id is never used again, so an old receipt can never mean a new item.
CREATE TABLE queued (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    queue      TEXT    NOT NULL,
    dead       INTEGER NOT NULL DEFAULT 0,
    visible_at INTEGER NOT NULL,
    sent_at    INTEGER NOT NULL,
    receives   INTEGER NOT NULL DEFAULT 0,
    fence      INTEGER NOT NULL DEFAULT 0,
    body       TEXT    NOT NULL
) STRICT;

CREATE INDEX queued_by_time ON queued (queue, dead, visible_at);
CREATE INDEX queued_by_age ON queued (sent_at) WHERE dead = 0;
"""

_TIMERS = """
CREATE TABLE timer (
    name  TEXT    NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL,
    queue TEXT    NOT NULL,
    body  TEXT    NOT NULL
) STRICT;

CREATE INDEX timer_by_time ON timer (at);
"""

_WORKFLOWS = """
-- `due_at`: when the handler is to be called next. `run` counts starts, `fence` calls; neither is ever set back.
CREATE TABLE execution (
    workflow    TEXT    NOT NULL,
    execution   TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    run         INTEGER NOT NULL DEFAULT 1,
    input       TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    reason      TEXT,
    due_at      INTEGER NOT NULL,
    failures    INTEGER NOT NULL DEFAULT 0,
    owner       TEXT,
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workflow, execution)
) STRICT;

CREATE INDEX execution_running ON execution (workflow, due_at) WHERE state = 'running';
"""

MIGRATIONS = (_TABLES + _QUEUES + _TIMERS + _WORKFLOWS,)


def open_control(root: Path) -> Database:
    """The control database under `root`, made if it is not there. Errors as `Database`."""
    return Database(root / CONTROL_FILE, MIGRATIONS)
