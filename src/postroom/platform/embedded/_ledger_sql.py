"""The ledger's schema and SQL, one named statement for each purpose. Keys travel as one blob of 12 bytes each, rows as JSON."""

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

    -- Columns from `reported_status` on: the events reported by others (model.provider_status). `at` is 0 while no worker has
    -- recorded an outcome and the row exists for its reported status alone.
    CREATE TABLE outcome (
        batch            INTEGER NOT NULL,
        key              BLOB    NOT NULL,
        status           INTEGER NOT NULL,  -- model.message.MessageStatus
        attempt          INTEGER NOT NULL,
        at               INTEGER NOT NULL,
        due              INTEGER,
        code             INTEGER NOT NULL,
        reply            TEXT    NOT NULL,
        provider_id      TEXT,
        reported_status  INTEGER,
        reported_attempt INTEGER,
        reported_at      INTEGER,
        reported_reply   TEXT,
        opened           INTEGER,
        clicked          INTEGER,
        unsubscribed     INTEGER,
        resubscribed     INTEGER,
        event_count      INTEGER,
        PRIMARY KEY (batch, key)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE event (
        number  INTEGER PRIMARY KEY,
        batch   INTEGER NOT NULL,
        key     BLOB    NOT NULL,
        id      TEXT    NOT NULL,
        data    TEXT    NOT NULL,      -- JSON, see model/event.py
        UNIQUE (batch, key, id)
    ) STRICT;

    CREATE TABLE batch (
        number       INTEGER PRIMARY KEY,
        fence        INTEGER NOT NULL DEFAULT 0,
        owner        TEXT,
        lease_until  INTEGER,
        group_owner  TEXT,
        group_fence  INTEGER,
        group_keys   BLOB,              -- 12 bytes a key; NULL: no open group
        group_at     INTEGER,
        next_due     INTEGER,           -- 0: now; NULL: never
        unsettled    INTEGER NOT NULL DEFAULT 0,
        pending      INTEGER NOT NULL DEFAULT 0,
        deferred     INTEGER NOT NULL DEFAULT 0,
        sent         INTEGER NOT NULL DEFAULT 0,
        delivered    INTEGER NOT NULL DEFAULT 0,
        bounced      INTEGER NOT NULL DEFAULT 0,
        complained   INTEGER NOT NULL DEFAULT 0,
        failed       INTEGER NOT NULL DEFAULT 0,
        unknown      INTEGER NOT NULL DEFAULT 0,
        skipped      INTEGER NOT NULL DEFAULT 0,
        opened       INTEGER NOT NULL DEFAULT 0,
        clicked      INTEGER NOT NULL DEFAULT 0,
        unsubscribed INTEGER NOT NULL DEFAULT 0,
        has_reports  INTEGER NOT NULL DEFAULT 0,  -- 1: at least one of its messages has reported events
        stale        INTEGER NOT NULL DEFAULT 0   -- 1: an event was reported since the last count
    ) STRICT;
    CREATE INDEX batch_due ON batch (next_due) WHERE next_due IS NOT NULL;
    CREATE INDEX batch_moved ON batch (number) WHERE owner IS NOT NULL OR group_keys IS NOT NULL OR stale;

    CREATE TABLE feed (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        at       INTEGER NOT NULL,
        batch    INTEGER,              -- NULL: rows stored by an import, of many batches
        changes  TEXT    NOT NULL      -- JSON, see feed.py
    ) STRICT;
    """,
)

_COUNTED = "pending, deferred, sent, delivered, bounced, complained, failed, unknown, skipped, opened, clicked, unsubscribed"
_SUMS = ", ".join(f"coalesce(sum({column}), 0)" for column in _COUNTED.split(", "))

# A message's status: the reported one if its rank is above the outcome's, else the outcome's (`ReportedStatus.ahead_of`).
# _RANKS: one digit for each number of a MessageStatus, its rank in model.event. 31: the highest attempt that tokens distinguish.
_RANKS = "'0126789534'"
_REPORTED_ATTEMPT = "(CASE WHEN o.reported_attempt < 31 THEN o.reported_attempt ELSE max(o.reported_attempt, o.attempt) END)"
_AHEAD = f"""(o.reported_status IS NOT NULL AND ({_REPORTED_ATTEMPT} > o.attempt OR ({_REPORTED_ATTEMPT} = o.attempt
    AND substr({_RANKS}, 1 + o.reported_status, 1) > substr({_RANKS}, 1 + o.status, 1))))"""
_STATUS = f"(CASE WHEN {_AHEAD} THEN o.reported_status ELSE coalesce(o.status, 0) END)"
_ATTEMPT = f"(CASE WHEN {_AHEAD} THEN {_REPORTED_ATTEMPT} ELSE coalesce(o.attempt, 0) END)"
_DUE = f"(CASE WHEN {_AHEAD} THEN NULL ELSE o.due END)"
_UNSUBSCRIBED = "(CASE WHEN o.unsubscribed > coalesce(o.resubscribed, o.unsubscribed - 1) THEN o.unsubscribed END)"
BATCHES = "SELECT batches FROM campaign"
CREATE_CAMPAIGN = "INSERT INTO campaign VALUES (?)"
CREATE_BATCHES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) INSERT INTO batch (number) SELECT i FROM n
"""
INSERT = "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?)"
LINE = "SELECT line FROM message WHERE batch = ? AND key = ?"
# Only while the message is untried: an outcome, or an open group in its batch, makes the stored line final.
TAKE_OVER = """
UPDATE message SET line = ?3, address = ?4, name = ?5, cells = ?6
 WHERE batch = ?1 AND key = ?2 AND line > ?3
   AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.batch = ?1 AND o.key = ?2)
   AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.number = ?1 AND b.group_keys IS NOT NULL)
"""

COUNT_MESSAGES = "SELECT count(*) FROM message WHERE batch = ?"
COUNT_OUTCOMES = f"""
SELECT {_STATUS}, count(*), count(due), min(due), count(opened), count(clicked), count({_UNSUBSCRIBED})
  FROM outcome o WHERE batch = ? GROUP BY 1
"""
# The same for a batch without reported events, at half the price: while a campaign is first sent, counting costs no more.
COUNT_UNREPORTED = "SELECT status, count(*), count(due), min(due), 0, 0, 0 FROM outcome WHERE batch = ? GROUP BY status"
STORE_COUNT = """
UPDATE batch SET pending = :pending, deferred = :deferred, sent = :sent, delivered = :delivered, bounced = :bounced,
       complained = :complained, failed = :failed, unknown = :unknown, skipped = :skipped,
       opened = :opened, clicked = :clicked, unsubscribed = :unsubscribed, stale = 0, unsettled = :unsettled, next_due = :next_due
 WHERE number = :number
"""
# A batch that is leased, has an open group or is stale is counted when asked: its stored count may be out of date.
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
SELECT {_STATUS}, count(*)
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
FENCE = "SELECT fence, has_reports FROM batch WHERE number = ?"
EXTEND = "UPDATE batch SET lease_until = ? WHERE number = ?"
GIVE_BACK = "UPDATE batch SET owner = NULL, lease_until = NULL WHERE number = ?"

_AS_JSON = f"""
SELECT json_group_array(json_array(hex(key), line, address, name, cells, status, attempt, due)) FROM (
  SELECT m.key, m.line, m.address, m.name, m.cells, {_STATUS} AS status, {_ATTEMPT} AS attempt, {_DUE} AS due
    FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
   WHERE m.batch = :batch AND {{condition}} ORDER BY m.key LIMIT :limit)
"""
# 0 pending, 2 deferred, 8 unknown
LOAD_DUE = _AS_JSON.format(
    condition=f"(o.status IS NULL OR ((o.status = 0 OR (o.status IN (2, 8) AND o.due <= :now)) AND NOT {_AHEAD}))"
)
LOAD_STATUSES = _AS_JSON.format(condition=f"{_STATUS} IN (SELECT value FROM json_each(:statuses))")
FIND = f"WITH RECURSIVE {_GENERATED}" + _AS_JSON.format(condition=f"m.key IN ({_KEYS})").replace(":limit", ":count")

REPLACE_GROUP = """
UPDATE batch SET group_owner = CASE WHEN :keys IS NULL THEN NULL ELSE owner END, group_keys = :keys, lease_until = :until,
       group_fence = CASE WHEN :keys IS NULL THEN NULL ELSE :fence END, group_at = CASE WHEN :keys IS NULL THEN NULL ELSE :at END
 WHERE number = :batch AND fence = :fence
"""
# CROSS JOIN: fixes the order of the join, for each change its message.
# Reported columns stay as they are. Without an earlier outcome (the usual case) this is a plain insert.
SETTLE = """
INSERT INTO outcome (batch, key, status, attempt, at, due, code, reply, provider_id)
SELECT m.batch, m.key, json_extract(c.value, '$[1]'), json_extract(c.value, '$[2]'), json_extract(c.value, '$[3]'),
       json_extract(c.value, '$[4]'), json_extract(c.value, '$[5]'), json_extract(c.value, '$[6]'), json_extract(c.value, '$[7]')
  FROM json_each(:changes) c CROSS JOIN message m ON m.batch = :batch AND m.key = substr(:keys, 1 + 12 * c.key, 12)
 WHERE true
    ON CONFLICT (batch, key) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, at = excluded.at,
       due = excluded.due, code = excluded.code, reply = excluded.reply, provider_id = excluded.provider_id
"""
OVERTAKEN = f"""
SELECT o.key, {_STATUS}, {_ATTEMPT}, o.reported_at, o.reported_reply
  FROM json_each(:changes) c CROSS JOIN outcome o ON o.batch = :batch AND o.key = substr(:keys, 1 + 12 * c.key, 12)
 WHERE {_AHEAD}
"""
# Work that a settlement leaves is found even if its worker dies before it counts the batch.
LOWER_DUE = "UPDATE batch SET next_due = min(coalesce(next_due, :due), :due) WHERE number = :batch"
APPEND_FEED = "INSERT INTO feed (at, batch, changes) VALUES (?, ?, ?)"

_RECORD = f"""
SELECT m.batch, m.key, m.line, m.address, m.name, m.cells, {_STATUS}, {_ATTEMPT},
       CASE WHEN {_AHEAD} THEN o.reported_at ELSE nullif(o.at, 0) END, {_DUE},
       CASE WHEN {_AHEAD} THEN 0 ELSE coalesce(o.code, 0) END,
       CASE WHEN {_AHEAD} THEN o.reported_reply ELSE coalesce(o.reply, '') END,
       o.provider_id, o.opened, o.clicked, {_UNSUBSCRIBED}
  FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
"""
GET = _RECORD + " WHERE m.batch = ? AND m.key = ?"
LIST = (
    _RECORD
    + f"""
 WHERE m.batch = :batch AND m.key > :after AND {_STATUS} IN (SELECT value FROM json_each(:statuses))
 ORDER BY m.key LIMIT :limit
"""
)

READ_FEED = "SELECT position, at, batch, changes FROM feed WHERE position > ? ORDER BY position"
TRIM_FEED = "DELETE FROM feed WHERE at < ?"
GROUP = "SELECT group_keys FROM batch WHERE number = ?"
ERASE_MESSAGE = "UPDATE message SET address = ?, name = NULL, cells = ? WHERE batch = ? AND key = ?"
ERASE_OUTCOME = (
    "UPDATE outcome SET reply = '', reported_reply = iif(reported_reply IS NULL, NULL, '') WHERE batch = ? AND key = ?"
)
FEED_OF = "SELECT position, changes FROM feed WHERE batch = ? AND instr(changes, ?)"
REWRITE_FEED = "UPDATE feed SET changes = ? WHERE position = ?"

# The messages that events are reported of, and which events are stored already. `:reports` is a JSON list of [batch, event].
REPORTED_STATUS_OF = """
SELECT json_group_array(json_array(m.batch, hex(m.key), m.address, coalesce(o.status, 0), coalesce(o.attempt, 0),
       coalesce(o.at, 0), coalesce(o.code, 0), coalesce(o.reply, ''), o.provider_id,
       o.reported_status, coalesce(o.reported_attempt, 0), o.reported_at, coalesce(o.reported_reply, ''),
       o.opened, o.clicked, o.unsubscribed, o.resubscribed, coalesce(o.event_count, 0)))
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
INSERT OR IGNORE INTO event (batch, key, id, data)
SELECT json_extract(c.value, '$[0]'), substr(:keys, 1 + 12 * c.key, 12), json_extract(c.value, '$[1][0]'),
       json_extract(c.value, '$[1]')
  FROM json_each(:reports) c
"""
STORE_REPORTED_STATUS = """
INSERT INTO outcome (batch, key, status, attempt, at, code, reply,
                     reported_status, reported_attempt, reported_at, reported_reply,
                     opened, clicked, unsubscribed, resubscribed, event_count)
SELECT json_extract(c.value, '$[0]'), substr(:keys, 1 + 12 * c.key, 12), 0, 0, 0, 0, '',
       json_extract(c.value, '$[1]'), json_extract(c.value, '$[2]'), json_extract(c.value, '$[3]'), json_extract(c.value, '$[4]'),
       json_extract(c.value, '$[5]'), json_extract(c.value, '$[6]'), json_extract(c.value, '$[7]'), json_extract(c.value, '$[8]'),
       json_extract(c.value, '$[9]')
  FROM json_each(:reported) c WHERE true
    ON CONFLICT (batch, key) DO UPDATE SET
       reported_status = excluded.reported_status, reported_attempt = excluded.reported_attempt,
       reported_at = excluded.reported_at, reported_reply = excluded.reported_reply,
       opened = excluded.opened, clicked = excluded.clicked,
       unsubscribed = excluded.unsubscribed, resubscribed = excluded.resubscribed, event_count = excluded.event_count
"""
MARK_STALE = "UPDATE batch SET has_reports = 1, stale = 1 WHERE number IN (SELECT value FROM json_each(?))"
TIMELINE = "SELECT number, data FROM event WHERE batch = ? AND key = ?"
REWRITE_EVENT = "UPDATE event SET data = ? WHERE number = ?"
OUTCOME = "SELECT status, attempt, at, code, reply FROM outcome WHERE batch = ? AND key = ? AND at <> 0"
