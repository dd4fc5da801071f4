"""The ledger's SQL, one named statement a purpose. Keys travel as one blob of 12 bytes each, rows as JSON."""

_COUNTED = "pending, deferred, sent, delivered, bounced, complained, failed, unknown, skipped, opened, clicked, unsubscribed"
_SUMS = ", ".join(f"coalesce(sum({column}), 0)" for column in _COUNTED.split(", "))

# Where a message stands: as its outcome says, or its news, where they are further (model.news: `ahead_of`). _RANKS: the
# ranks of the states' numbers on the line of model.event; 31: the last attempt that the wire tells apart.
_RANKS = "'0126789534'"
_TOLD_ATTEMPT = "(CASE WHEN o.told_attempt < 31 THEN o.told_attempt ELSE max(o.told_attempt, o.attempt) END)"
_AHEAD = f"""(o.told_state IS NOT NULL AND ({_TOLD_ATTEMPT} > o.attempt OR ({_TOLD_ATTEMPT} = o.attempt
    AND substr({_RANKS}, 1 + o.told_state, 1) > substr({_RANKS}, 1 + o.state, 1))))"""
_STATE = f"(CASE WHEN {_AHEAD} THEN o.told_state ELSE coalesce(o.state, 0) END)"
_ATTEMPT = f"(CASE WHEN {_AHEAD} THEN {_TOLD_ATTEMPT} ELSE coalesce(o.attempt, 0) END)"
_DUE = f"(CASE WHEN {_AHEAD} THEN NULL ELSE o.due END)"
_UNSUBSCRIBED = "(CASE WHEN o.unsubscribed > coalesce(o.resubscribed, o.unsubscribed - 1) THEN o.unsubscribed END)"

BATCHES = "SELECT batches FROM campaign"
CREATE_CAMPAIGN = "INSERT INTO campaign VALUES (?)"
CREATE_BATCHES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) INSERT INTO batch (number) SELECT i FROM n
"""

INSERT = "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?)"
LINE = "SELECT line FROM message WHERE batch = ? AND key = ?"
# Only while nothing was tried: an outcome or a place in the open group makes the row's owner final.
TAKE_OVER = """
UPDATE message SET line = ?3, address = ?4, name = ?5, cells = ?6
 WHERE batch = ?1 AND key = ?2 AND line > ?3
   AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.batch = ?1 AND o.key = ?2)
   AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.number = ?1 AND b.group_keys IS NOT NULL)
"""

COUNT_MESSAGES = "SELECT count(*) FROM message WHERE batch = ?"
COUNT_OUTCOMES = f"""
SELECT {_STATE}, count(*), count(due), min(due), count(opened), count(clicked), count({_UNSUBSCRIBED})
  FROM outcome o WHERE batch = ? GROUP BY 1
"""
# The same for a batch without news, at half the price: sending, which comes first, pays for nothing that comes back.
COUNT_UNHEARD = "SELECT state, count(*), count(due), min(due), 0, 0, 0 FROM outcome WHERE batch = ? GROUP BY state"
STORE_COUNT = """
UPDATE batch SET pending = :pending, deferred = :deferred, sent = :sent, delivered = :delivered, bounced = :bounced,
       complained = :complained, failed = :failed, unknown = :unknown, skipped = :skipped,
       opened = :opened, clicked = :clicked, unsubscribed = :unsubscribed, stale = 0, unsettled = :unsettled, next_due = :next_due
 WHERE number = :number
"""
# A batch in somebody's hands, or left by somebody, or of which there is news, is counted when asked: its snapshot is from before.
_AT_REST = "owner IS NULL AND group_keys IS NULL AND NOT stale"
MOVED_BATCHES = "SELECT number, group_keys FROM batch WHERE owner IS NOT NULL OR group_keys IS NOT NULL OR stale"
SUM_AT_REST = f"SELECT {_SUMS} FROM batch WHERE {_AT_REST}"
UNSETTLED_AT_REST = f"SELECT coalesce(sum(unsettled), 0) FROM batch WHERE {_AT_REST}"
COUNTS_IF_AT_REST = f"SELECT {_COUNTED} FROM batch WHERE number = ? AND {_AT_REST}"
STALE = "SELECT number FROM batch WHERE stale ORDER BY number"
_KEYS = "SELECT substr(:keys, 1 + 12 * value, 12) AS key FROM generated"
_GENERATED = "generated(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM generated WHERE value + 1 < :count)"
COUNT_GROUP = f"""
WITH RECURSIVE {_GENERATED}
SELECT {_STATE}, count(*)
  FROM ({_KEYS}) k CROSS JOIN message m ON m.batch = :batch AND m.key = k.key
  LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key GROUP BY 1
"""
SNAPSHOTS = f"SELECT number, stale, owner, lease_until, next_due, {_COUNTED} FROM batch WHERE number > ? ORDER BY number LIMIT ?"

DUE_BATCHES = """
SELECT number FROM batch
 WHERE (next_due <= :now OR group_keys IS NOT NULL)
   AND (owner IS NULL OR lease_until <= :now OR owner IN (SELECT value FROM json_each(:dead)))
 ORDER BY number LIMIT :limit
"""
NEXT_DUE = "SELECT min(CASE WHEN group_keys IS NOT NULL THEN 0 ELSE next_due END) FROM batch"
OPEN_BATCH = """
UPDATE batch SET fence = fence + 1, owner = :owner, lease_until = :until
 WHERE number = :number
   AND (owner IS NULL OR owner = :owner OR lease_until <= :now OR owner IN (SELECT value FROM json_each(:dead)))
RETURNING fence, group_owner, group_fence, group_keys, group_at
"""
FENCE = "SELECT fence, heard FROM batch WHERE number = ?"
EXTEND = "UPDATE batch SET lease_until = ? WHERE number = ?"
GIVE_BACK = "UPDATE batch SET owner = NULL, lease_until = NULL WHERE number = ?"

_AS_JSON = f"""
SELECT json_group_array(json_array(hex(key), line, address, name, cells, state, attempt, due)) FROM (
  SELECT m.key, m.line, m.address, m.name, m.cells, {_STATE} AS state, {_ATTEMPT} AS attempt, {_DUE} AS due
    FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
   WHERE m.batch = :batch AND {{condition}} ORDER BY m.key LIMIT :limit)
"""
# 0 pending, 2 deferred, 8 unknown
LOAD_DUE = _AS_JSON.format(
    condition=f"(o.state IS NULL OR ((o.state = 0 OR (o.state IN (2, 8) AND o.due <= :now)) AND NOT {_AHEAD}))"
)
LOAD_STATES = _AS_JSON.format(condition=f"{_STATE} IN (SELECT value FROM json_each(:statuses))")
FIND = f"WITH RECURSIVE {_GENERATED}" + _AS_JSON.format(condition=f"m.key IN ({_KEYS})").replace(":limit", ":count")

REPLACE_GROUP = """
UPDATE batch SET group_owner = CASE WHEN :keys IS NULL THEN NULL ELSE owner END, group_keys = :keys, lease_until = :until,
       group_fence = CASE WHEN :keys IS NULL THEN NULL ELSE :fence END, group_at = CASE WHEN :keys IS NULL THEN NULL ELSE :at END
 WHERE number = :batch AND fence = :fence
"""
# CROSS JOIN: for each change its message, never for each message all changes.
# It leaves the news where they are. Where nothing was recorded before (the usual case) it is a plain insert.
SETTLE = """
INSERT INTO outcome (batch, key, state, attempt, at, due, code, reply, provider_id)
SELECT m.batch, m.key, json_extract(c.value, '$[1]'), json_extract(c.value, '$[2]'), json_extract(c.value, '$[3]'),
       json_extract(c.value, '$[4]'), json_extract(c.value, '$[5]'), json_extract(c.value, '$[6]'), json_extract(c.value, '$[7]')
  FROM json_each(:changes) c CROSS JOIN message m ON m.batch = :batch AND m.key = substr(:keys, 1 + 12 * c.key, 12)
 WHERE true
    ON CONFLICT (batch, key) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, at = excluded.at,
       due = excluded.due, code = excluded.code, reply = excluded.reply, provider_id = excluded.provider_id
"""
OVERTAKEN = f"""
SELECT o.key, {_STATE}, {_ATTEMPT}, o.told_at, o.told_reply
  FROM json_each(:changes) c CROSS JOIN outcome o ON o.batch = :batch AND o.key = substr(:keys, 1 + 12 * c.key, 12)
 WHERE {_AHEAD}
"""
# Work that a settlement leaves is found even if its holder dies before it counts the batch.
LOWER_DUE = "UPDATE batch SET next_due = min(coalesce(next_due, :due), :due) WHERE number = :batch"
APPEND_FEED = "INSERT INTO feed (at, batch, changes) VALUES (?, ?, ?)"

_RECORD = f"""
SELECT m.batch, m.key, m.line, m.address, m.name, m.cells, {_STATE}, {_ATTEMPT},
       CASE WHEN {_AHEAD} THEN o.told_at ELSE nullif(o.at, 0) END, {_DUE}, CASE WHEN {_AHEAD} THEN 0 ELSE coalesce(o.code, 0) END,
       CASE WHEN {_AHEAD} THEN o.told_reply ELSE coalesce(o.reply, '') END, o.provider_id, o.opened, o.clicked, {_UNSUBSCRIBED}
  FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
"""
GET = _RECORD + " WHERE m.batch = ? AND m.key = ?"
LIST = (
    _RECORD
    + f"""
 WHERE m.batch = :batch AND m.key > :after AND {_STATE} IN (SELECT value FROM json_each(:statuses))
 ORDER BY m.key LIMIT :limit
"""
)

READ_FEED = "SELECT position, at, batch, changes FROM feed WHERE position > ? ORDER BY position"
TRIM_FEED = "DELETE FROM feed WHERE at < ?"

GROUP = "SELECT group_keys FROM batch WHERE number = ?"
ERASE_MESSAGE = "UPDATE message SET address = ?, name = NULL, cells = ? WHERE batch = ? AND key = ?"
ERASE_OUTCOME = "UPDATE outcome SET reply = '', told_reply = iif(told_reply IS NULL, NULL, '') WHERE batch = ? AND key = ?"
FEED_OF = "SELECT position, changes FROM feed WHERE batch = ? AND instr(changes, ?)"
REWRITE_FEED = "UPDATE feed SET changes = ? WHERE position = ?"

# What is known of the messages that are reported of, and which of the events: lists as one JSON value, of [batch, event].
NEWS_OF = """
SELECT json_group_array(json_array(m.batch, hex(m.key), m.address, coalesce(o.state, 0), coalesce(o.attempt, 0),
       coalesce(o.at, 0), coalesce(o.code, 0), coalesce(o.reply, ''), o.provider_id,
       o.told_state, coalesce(o.told_attempt, 0), o.told_at, coalesce(o.told_reply, ''),
       o.opened, o.clicked, o.unsubscribed, o.resubscribed, coalesce(o.events, 0)))
  FROM json_each(:reports) c
 CROSS JOIN message m ON m.batch = json_extract(c.value, '$[0]') AND m.key = substr(:keys, 1 + 12 * c.key, 12)
  LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
"""
KNOWN_EVENTS = """
SELECT json_group_array(c.key)
  FROM json_each(:reports) c
 CROSS JOIN event e ON e.batch = json_extract(c.value, '$[0]') AND e.key = substr(:keys, 1 + 12 * c.key, 12)
   AND e.id = json_extract(c.value, '$[1][0]')
"""
ADD_EVENTS = """
INSERT OR IGNORE INTO event (batch, key, id, told)
SELECT json_extract(c.value, '$[0]'), substr(:keys, 1 + 12 * c.key, 12), json_extract(c.value, '$[1][0]'),
       json_extract(c.value, '$[1]')
  FROM json_each(:reports) c
"""
STORE_NEWS = """
INSERT INTO outcome (batch, key, state, attempt, at, code, reply,
                     told_state, told_attempt, told_at, told_reply, opened, clicked, unsubscribed, resubscribed, events)
SELECT json_extract(c.value, '$[0]'), substr(:keys, 1 + 12 * c.key, 12), 0, 0, 0, 0, '',
       json_extract(c.value, '$[1]'), json_extract(c.value, '$[2]'), json_extract(c.value, '$[3]'), json_extract(c.value, '$[4]'),
       json_extract(c.value, '$[5]'), json_extract(c.value, '$[6]'), json_extract(c.value, '$[7]'), json_extract(c.value, '$[8]'),
       json_extract(c.value, '$[9]')
  FROM json_each(:news) c WHERE true
    ON CONFLICT (batch, key) DO UPDATE SET told_state = excluded.told_state, told_attempt = excluded.told_attempt,
       told_at = excluded.told_at, told_reply = excluded.told_reply, opened = excluded.opened, clicked = excluded.clicked,
       unsubscribed = excluded.unsubscribed, resubscribed = excluded.resubscribed, events = excluded.events
"""
MARK_STALE = "UPDATE batch SET heard = 1, stale = 1 WHERE number IN (SELECT value FROM json_each(?))"
TIMELINE = "SELECT number, told FROM event WHERE batch = ? AND key = ?"
REWRITE_EVENT = "UPDATE event SET told = ? WHERE number = ?"
OUTCOME = "SELECT state, attempt, at, code, reply FROM outcome WHERE batch = ? AND key = ? AND at <> 0"


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
        told    TEXT    NOT NULL,      -- JSON, see model/event.py
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
