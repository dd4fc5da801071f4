"""The ledger's SQL, one named statement a purpose. Keys travel as one blob of 12 bytes each, rows as JSON."""

_COUNTED = "pending, deferred, sent, delivered, bounced, complained, failed, unknown, skipped"
_SUMS = ", ".join(f"coalesce(sum({column}), 0)" for column in _COUNTED.split(", "))

BATCHES = "SELECT batches FROM home"
CREATE_HOME = "INSERT INTO home VALUES (?)"
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
COUNT_OUTCOMES = "SELECT state, count(*), count(due), min(due) FROM outcome WHERE batch = ? GROUP BY state"
STORE_COUNT = """
UPDATE batch SET pending = :pending, deferred = :deferred, sent = :sent, delivered = :delivered, bounced = :bounced,
       complained = :complained, failed = :failed, unknown = :unknown, skipped = :skipped,
       unsettled = :unsettled, next_due = :next_due
 WHERE number = :number
"""
# A batch in somebody's hands, or left by somebody, is counted when asked: its snapshot is from before.
OPEN_BATCHES = "SELECT number, group_keys FROM batch WHERE owner IS NOT NULL OR group_keys IS NOT NULL"
SUM_AT_REST = f"SELECT {_SUMS} FROM batch WHERE owner IS NULL AND group_keys IS NULL"
UNSETTLED_AT_REST = "SELECT coalesce(sum(unsettled), 0) FROM batch WHERE owner IS NULL AND group_keys IS NULL"
COUNTS_IF_AT_REST = f"SELECT {_COUNTED} FROM batch WHERE number = ? AND owner IS NULL AND group_keys IS NULL"
_KEYS = "SELECT substr(:keys, 1 + 12 * value, 12) AS key FROM generated"
_GENERATED = "generated(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM generated WHERE value + 1 < :count)"
COUNT_GROUP = f"""
WITH RECURSIVE {_GENERATED}
SELECT coalesce(o.state, 0), count(*)
  FROM ({_KEYS}) k CROSS JOIN message m ON m.batch = :batch AND m.key = k.key
  LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key GROUP BY 1
"""
SNAPSHOTS = f"SELECT number, owner, lease_until, next_due, {_COUNTED} FROM batch WHERE number > ? ORDER BY number LIMIT ?"

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
FENCE = "SELECT fence FROM batch WHERE number = ?"
EXTEND = "UPDATE batch SET lease_until = ? WHERE number = ?"
GIVE_BACK = "UPDATE batch SET owner = NULL, lease_until = NULL WHERE number = ?"

_AS_JSON = """
SELECT json_group_array(json_array(hex(key), line, address, name, cells, state, attempt, due)) FROM (
  SELECT m.key, m.line, m.address, m.name, m.cells, coalesce(o.state, 0) AS state, coalesce(o.attempt, 0) AS attempt, o.due
    FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
   WHERE m.batch = :batch AND {condition} ORDER BY m.key LIMIT :limit)
"""
# 0 pending, 2 deferred, 8 unknown
LOAD_DUE = _AS_JSON.format(condition="(o.state IS NULL OR o.state = 0 OR (o.state IN (2, 8) AND o.due <= :now))")
LOAD_STATES = _AS_JSON.format(condition="coalesce(o.state, 0) IN (SELECT value FROM json_each(:states))")
FIND = f"WITH RECURSIVE {_GENERATED}" + _AS_JSON.format(condition=f"m.key IN ({_KEYS})").replace(":limit", ":count")

REPLACE_GROUP = """
UPDATE batch SET group_owner = CASE WHEN :keys IS NULL THEN NULL ELSE owner END, group_keys = :keys, lease_until = :until,
       group_fence = CASE WHEN :keys IS NULL THEN NULL ELSE :fence END, group_at = CASE WHEN :keys IS NULL THEN NULL ELSE :at END
 WHERE number = :batch AND fence = :fence
"""
# CROSS JOIN: for each change its message, never for each message all changes.
SETTLE = """
REPLACE INTO outcome
SELECT m.batch, m.key, json_extract(c.value, '$[1]'), json_extract(c.value, '$[2]'), json_extract(c.value, '$[3]'),
       json_extract(c.value, '$[4]'), json_extract(c.value, '$[5]'), json_extract(c.value, '$[6]'), json_extract(c.value, '$[7]')
  FROM json_each(:changes) c CROSS JOIN message m ON m.batch = :batch AND m.key = substr(:keys, 1 + 12 * c.key, 12)
"""
# Work that a settlement leaves is found even if its holder dies before it counts the batch.
LOWER_DUE = "UPDATE batch SET next_due = min(coalesce(next_due, :due), :due) WHERE number = :batch"
APPEND_FEED = "INSERT INTO feed (at, batch, changes) VALUES (?, ?, ?)"

_RECORD = """
SELECT m.batch, m.key, m.line, m.address, m.name, m.cells, coalesce(o.state, 0), coalesce(o.attempt, 0), o.at, o.due,
       coalesce(o.code, 0), coalesce(o.reply, ''), o.provider_id
  FROM message m LEFT JOIN outcome o ON o.batch = m.batch AND o.key = m.key
"""
GET = _RECORD + " WHERE m.batch = ? AND m.key = ?"
LIST = (
    _RECORD
    + """
 WHERE m.batch = :batch AND m.key > :after AND coalesce(o.state, 0) IN (SELECT value FROM json_each(:states))
 ORDER BY m.key LIMIT :limit
"""
)

READ_FEED = "SELECT position, at, batch, changes FROM feed WHERE position > ? ORDER BY position"
TRIM_FEED = "DELETE FROM feed WHERE at < ?"

GROUP = "SELECT group_keys FROM batch WHERE number = ?"
ERASE_MESSAGE = "UPDATE message SET address = ?, name = NULL, cells = ? WHERE batch = ? AND key = ?"
ERASE_OUTCOME = "UPDATE outcome SET reply = '' WHERE batch = ? AND key = ?"
FEED_OF = "SELECT position, changes FROM feed WHERE batch = ? AND instr(changes, ?)"
REWRITE_FEED = "UPDATE feed SET changes = ? WHERE position = ?"
