"""The ledger's items in the table: what they are called, and how they become the model's records.

    H#tenant#campaign            home                 how many batches; `gone` while it is being dropped
    M#tenant#campaign#batch      !batch               fence, lease, open group, touched keys, last count (_batch.py)
    M#tenant#campaign#batch      <key in hex>         one message
    M#tenant#campaign#batch      !event#<key>#id      one event that stands beside its message

A batch has a partition of its own: the campaign's writes are spread over all of them, and no partition gets hot. Events sort
before the messages, so that counting reads none of them; they are there because a stream is in order only within a partition.

A message's outcome stands in attributes of its own. What was reported of it stands in its item too (`heard`), so that an event is
one write of one item; only where the item would grow past `FULL_BYTES`, in an item of its own. The news (model.news) follow from
the events in `heard`, until an event stands elsewhere or the words are erased: from then on they are kept in `told`. Where the
message stands follows from outcome and news whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import msgspec

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, StatusRank, event_cells, event_from_cells, event_text
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import ERASED, Message, MessageRow, MessageStatus, Recipient, Settlement
from postroom.model.provider_status import ReportedStatus, redact_event
from postroom.platform.aws._dynamo import PrimaryKey, Record, Value

BATCH_PARTITION = "M#"
BATCH_SORT = "!batch"  # before every hexadecimal digit
EVENT_SORT = "!event#"
FIRST_KEY = "0"
REPLY_LENGTH = 250
FULL_BYTES = 4_096
"""Where a message's item takes no more events. Each KB of it costs a unit a write; an event beside it costs four or more."""
_CHANGES_A_VERSION = 128  # more than one write tells of a message
RECIPIENT = ("sk", "line", "address", "name", "values", "state", "attempt", "due", "told", "heard")
"""The attributes `recipient` needs."""
STANDING = ("sk", "state", "attempt", "due", "told", "heard")
"""The attributes `Tally.of` needs."""


def home_at(ref: CampaignRef) -> PrimaryKey:
    """Where the home's own record is. `Invalid`: such a name could be taken for another's."""
    for part in ref:
        if not part.replace("-", "").isalnum() or not part.isascii():
            raise Invalid(f"{part!r} is no id of a tenant or campaign")
    return PrimaryKey(f"H#{ref.tenant}#{ref.campaign}", "home")


def batch_at(ref: CampaignRef, batch: int) -> PrimaryKey:
    """Where the batch's record is; its messages are in the same partition."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", BATCH_SORT)


def message_at(ref: CampaignRef, batch: int, key: Key) -> PrimaryKey:
    """Where the message is."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", key.hex())


def event_at(ref: CampaignRef, batch: int, key: Key, event_id: str = "") -> PrimaryKey:
    """Where one of the message's events is, if it stands beside it; without an id: what all of theirs begin with."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", f"{EVENT_SORT}{key.hex()}#{event_id}")


def news(record: Record) -> ReportedStatus | None:
    """The reported half of a message's record; None: nothing was reported."""
    if "told" in record:
        state, *rest = json.loads(str(record["told"]))
        return ReportedStatus(None if state is None else MessageStatus(state), *rest)
    if "heard" not in record:
        return None
    found = ReportedStatus()
    for event in heard(record):
        found = found.hear(event)
    return found


def told(news: ReportedStatus) -> str:
    """What `news` reads where not all events are in the item."""
    return json.dumps(news, separators=(",", ":"), ensure_ascii=False)


def heard(record: Record) -> list[Event]:
    """The events in the message's item, in the order they were heard."""
    if "heard" not in record:
        return []
    return [event_from_cells([*row, *_UNSAID[len(row) :]]) for row in msgspec.json.decode(str(record["heard"]))]


def hearing(events: Iterable[Event]) -> str | None:
    """The reverse of `heard`: each event without the cells at its end that say nothing."""
    rows = [_said(event_cells(event)) for event in events]
    return msgspec.json.encode(rows).decode() if rows else None


def _said(row: list[object]) -> list[object]:
    length = len(row)
    while length and row[length - 1] == _UNSAID[length - 1]:
        length -= 1
    return row[:length]


_UNSAID = ("", "", 0, 0, "", None, False, "", "", "")  # as model.event_text orders them


def outcome(record: Record) -> StatusRank:
    """What its worker recorded last."""
    return StatusRank(int(record["attempt"]), MessageStatus(int(record["state"])))


def standing(record: Record) -> StatusRank:
    """Where the message stands."""
    reported = news(record)
    return (reported and reported.ahead_of(outcome(record))) or outcome(record)


def stored(ref: CampaignRef, row: MessageRow, now: Instant) -> dict[str, Value | None]:
    """A new message's item."""
    at = message_at(ref, row.batch, row.key)
    head: dict[str, Value | None] = {"pk": at.pk, "sk": at.sk, "stored": now, "state": int(MessageStatus.PENDING), "attempt": 0}
    return head | {"version": 1} | replaceable(row)


def replaceable(row: MessageRow) -> dict[str, Value | None]:
    """What a row with a lower line replaces."""
    return {"line": row.line, "address": row.address, "name": row.name, "values": row.values}


def settled(settlement: Settlement) -> dict[str, Value | None]:
    """What a settlement makes of the item. `mark` says which one it was, so that a repeat is known for what it is."""
    reply = settlement.reply[:REPLY_LENGTH]
    outcome = [
        settlement.key.hex(),
        int(settlement.status),
        settlement.attempt,
        settlement.at,
        settlement.due,
        settlement.code,
        reply,
        settlement.provider_id,
    ]
    return {
        "state": int(settlement.status),
        "attempt": settlement.attempt,
        "at": settlement.at,
        "due": settlement.due,
        "code": settlement.code or None,
        "reply": reply or None,
        "provider_id": settlement.provider_id,
        "mark": hashlib.blake2b(json.dumps(outcome).encode(), digest_size=9).hexdigest(),
    }


def erased(values: str, seen: Record) -> dict[str, Value | None]:
    """What erasing makes of the item. `mark` stays: a repeated settlement is still known for what it is."""
    reported = news(seen)
    kept = None if reported is None else told(reported._replace(reply=""))
    words = hearing(map(redact_event, heard(seen)))
    return {"address": ERASED, "name": None, "values": values, "reply": None, "told": kept, "heard": words}


def event_item(ref: CampaignRef, batch: int, key: Key, event: Event, stands: str | None = None) -> dict[str, Value | None]:
    """The item of an event that stands beside its message. `stands`: where it puts the message, for the stream; None: an event of
    our worker's, which the message's own change tells of."""
    at = event_at(ref, batch, key, event.id)
    return {"pk": at.pk, "sk": at.sk, "event": event_text(event), "stands": stands}


def recipient(record: Record) -> Recipient:
    """A message as the sender needs it."""
    stands = standing(record)
    return Recipient(
        key_of(record),
        int(record["line"]),
        str(record["address"]),
        text(record, "name"),
        str(record["values"]),
        stands.status,
        stands.attempt,
        instant(record, "due") if stands == outcome(record) else None,
    )


def stands(record: Record, reported: ReportedStatus) -> tuple[MessageStatus, int, Instant | None, int, str]:
    """Where these news put the message: state, attempt, since when, code and reply."""
    ahead = reported.ahead_of(outcome(record))
    if ahead is not None:
        return ahead.status, ahead.attempt, reported.at, 0, reported.reply
    attempt, state = outcome(record)
    return state, attempt, instant(record, "at"), int(record.get("code", 0)), str(record.get("reply", ""))


def sequence(version: int, index: int) -> int:
    """Of the change in the feed that is the `index`th of those that made this version of a message."""
    return version * _CHANGES_A_VERSION + index


def message(number: int, record: Record) -> Message:
    """The whole record."""
    reported = news(record) or ReportedStatus()
    shown = recipient(record)
    _, _, at, code, reply = stands(record, reported)
    facts = at, shown.due, code, reply
    people = reported.opened, reported.clicked, reported.unsubscribed_at
    return Message(number, *shown[:-1], *facts, text(record, "provider_id"), *people)


def key_of(record: Record) -> Key:
    """The message's key."""
    return Key(bytes.fromhex(str(record["sk"])))


def join(keys: tuple[Key, ...]) -> bytes | None:
    """Keys as one value; None for none of them."""
    return b"".join(keys) or None


def split(keys: bytes) -> tuple[Key, ...]:
    """The reverse of `join`."""
    return tuple(Key(keys[i : i + KEY_BYTES]) for i in range(0, len(keys), KEY_BYTES))


def text(record: Record, attribute: str) -> str | None:
    """A text, or None where it is absent."""
    return str(record[attribute]) if attribute in record else None


def instant(record: Record, attribute: str) -> Instant | None:
    """An instant, or None where it is absent."""
    return Instant(int(record[attribute])) if attribute in record else None
