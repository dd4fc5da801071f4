"""The ledger's items in the table: their keys and attributes, and how they become the model's records.

    C#tenant#campaign            campaign             `batches`, `format`; `gone` while it is being dropped
    M#tenant#campaign#batch      !batch               fence, lease, open group, touched keys, last count (_batches.py)
    M#tenant#campaign#batch      <key in hex>         one message
    M#tenant#campaign#batch      !event#<key>#id      one event in an item of its own

Each batch has its own partition: the campaign's writes are spread over all of them, and no partition gets hot
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html). Events sort before the
messages, so counting does not read them. They share the partition because a stream is in order only within one.

A message's item holds the recorded outcome in attributes of its own, and the reported events in `events`, so that an event is one
write of one item. Only if the item would grow past `FULL_BYTES`, events get items of their own. The reported status
(model.provider_status) is computed from `events`, until an event has its own item or the message is erased: from then on it is
stored in `reported`. The message's status is computed from outcome and reported status at each read.

`FORMAT` is stored with each campaign. A campaign of another format is refused (`Unsupported`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import msgspec

from postroom.clock import Instant
from postroom.errors import Invalid, Unsupported
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, StatusRank, event_cells, event_from_cells, event_text
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import ERASED, Message, MessageRow, MessageStatus, Recipient, Settlement
from postroom.model.provider_status import ReportedStatus, redact_event
from postroom.platform.aws._dynamo import PrimaryKey, Record, Value

FORMAT = 2
"""Of a campaign's items. Format 1 was never released."""
BATCH_PARTITION = "M#"
BATCH_SORT = "!batch"  # before every hexadecimal digit
EVENT_SORT = "!event#"
FIRST_KEY = "0"
REPLY_LENGTH = 250
FULL_BYTES = 4_096
"""A message's item takes no more events from this size. Each KB costs a write unit at each write of the item
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html); an event's own item costs four or
more."""
_CHANGES_A_VERSION = 128  # more than one write can add to a message
RECIPIENT_ATTRIBUTES = ("sk", "line", "address", "name", "values", "status", "attempt", "due", "reported", "events")
"""The attributes that `recipient` needs."""
STATUS_ATTRIBUTES = ("sk", "status", "attempt", "due", "reported", "events")
"""The attributes `BatchTotals.from_messages` needs."""


def campaign_key(ref: CampaignRef) -> PrimaryKey:
    """Key of the campaign's record. Raises `Invalid` for an id that could be mistaken for another's key."""
    for part in ref:
        if not part.replace("-", "").isalnum() or not part.isascii():
            raise Invalid(f"{part!r} is no id of a tenant or campaign")
    return PrimaryKey(f"C#{ref.tenant}#{ref.campaign}", "campaign")


def check_format(ref: CampaignRef, record: Record) -> None:
    """Raises `Unsupported` if the campaign's items have another format than this release writes."""
    found = int(record.get("format", 1))
    if found != FORMAT:
        writer, advice = ("an older", "use the release that wrote them") if found < FORMAT else ("a newer", "upgrade")
        raise Unsupported(
            f"the messages of campaign {ref.campaign} were written by {writer} Postroom"
            f" (format {found}, this one reads {FORMAT}): {advice}. Nothing was changed."
        )


def batch_key(ref: CampaignRef, batch: int) -> PrimaryKey:
    """Key of the batch's record. Its messages are in the same partition."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", BATCH_SORT)


def message_key(ref: CampaignRef, batch: int, key: Key) -> PrimaryKey:
    """Key of the message's item."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", key.hex())


def event_key(ref: CampaignRef, batch: int, key: Key, event_id: str = "") -> PrimaryKey:
    """Key of an event's own item. Without an id: the prefix of all of the message's event items."""
    return PrimaryKey(f"{BATCH_PARTITION}{ref.tenant}#{ref.campaign}#{batch}", f"{EVENT_SORT}{key.hex()}#{event_id}")


def reported_status(record: Record) -> ReportedStatus | None:
    """The message's reported status, or None if nothing was reported."""
    if "reported" in record:
        state, *rest = json.loads(str(record["reported"]))
        return ReportedStatus(None if state is None else MessageStatus(state), *rest)
    if "events" not in record:
        return None
    found = ReportedStatus()
    for event in stored_events(record):
        found = found.hear(event)
    return found


def reported_text(reported: ReportedStatus) -> str:
    """The attribute `reported`, for a message whose item does not hold all events."""
    return json.dumps(reported, separators=(",", ":"), ensure_ascii=False)


def stored_events(record: Record) -> list[Event]:
    """The events in the message's item, in the order they were reported."""
    if "events" not in record:
        return []
    return [event_from_cells([*row, *_EMPTY_CELLS[len(row) :]]) for row in msgspec.json.decode(str(record["events"]))]


def events_json(events: Iterable[Event]) -> str | None:
    """The reverse of `stored_events`: each event without its empty trailing cells."""
    rows = [_without_empty_cells(event_cells(event)) for event in events]
    return msgspec.json.encode(rows).decode() if rows else None


def _without_empty_cells(row: list[object]) -> list[object]:
    length = len(row)
    while length and row[length - 1] == _EMPTY_CELLS[length - 1]:
        length -= 1
    return row[:length]


_EMPTY_CELLS = ("", "", 0, 0, "", None, False, "", "", "")  # as model.event orders them


def outcome_rank(record: Record) -> StatusRank:
    """The status and attempt that the worker recorded last."""
    return StatusRank(int(record["attempt"]), MessageStatus(int(record["status"])))


def current_rank(record: Record) -> StatusRank:
    """The message's status and attempt: reported if that is ahead, else recorded."""
    reported = reported_status(record)
    return (reported and reported.ahead_of(outcome_rank(record))) or outcome_rank(record)


def new_message_item(ref: CampaignRef, row: MessageRow, now: Instant) -> dict[str, Value | None]:
    """A new message's item."""
    at = message_key(ref, row.batch, row.key)
    head: dict[str, Value | None] = {"pk": at.pk, "sk": at.sk, "stored": now, "status": int(MessageStatus.PENDING), "attempt": 0}
    return head | {"version": 1} | row_attributes(row)


def row_attributes(row: MessageRow) -> dict[str, Value | None]:
    """The attributes that a row with a lower line replaces."""
    return {"line": row.line, "address": row.address, "name": row.name, "values": row.values}


def settled_attributes(settlement: Settlement) -> dict[str, Value | None]:
    """The attributes that a settlement sets. `mark` identifies the settlement, so that a repeat is recognized."""
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
        "status": int(settlement.status),
        "attempt": settlement.attempt,
        "at": settlement.at,
        "due": settlement.due,
        "code": settlement.code or None,
        "reply": reply or None,
        "provider_id": settlement.provider_id,
        "mark": hashlib.blake2b(json.dumps(outcome).encode(), digest_size=9).hexdigest(),
    }


def erased_attributes(values: str, seen: Record) -> dict[str, Value | None]:
    """The attributes that erasing sets. `mark` stays, so that a repeated settlement is still recognized."""
    reported = reported_status(seen)
    kept = None if reported is None else reported_text(reported._replace(reply=""))
    words = events_json(map(redact_event, stored_events(seen)))
    return {"address": ERASED, "name": None, "values": values, "reply": None, "reported": kept, "events": words}


def event_item(ref: CampaignRef, batch: int, key: Key, event: Event, status: str | None = None) -> dict[str, Value | None]:
    """An event's own item. `status` is the message's status after the event, for the stream. None for an event of our own worker,
    which the change of the message's item reports."""
    at = event_key(ref, batch, key, event.id)
    return {"pk": at.pk, "sk": at.sk, "event": event_text(event), "message_status": status}


def recipient(record: Record) -> Recipient:
    """The message as the sender needs it."""
    rank = current_rank(record)
    return Recipient(
        key_of(record),
        int(record["line"]),
        str(record["address"]),
        text(record, "name"),
        str(record["values"]),
        rank.status,
        rank.attempt,
        instant(record, "due") if rank == outcome_rank(record) else None,
    )


def current_status(record: Record, reported: ReportedStatus) -> tuple[MessageStatus, int, Instant | None, int, str]:
    """The message's status given this reported status: status, attempt, since when, code and reply."""
    ahead = reported.ahead_of(outcome_rank(record))
    if ahead is not None:
        return ahead.status, ahead.attempt, reported.at, 0, reported.reply
    attempt, state = outcome_rank(record)
    return state, attempt, instant(record, "at"), int(record.get("code", 0)), str(record.get("reply", ""))


def sequence(version: int, index: int) -> int:
    """`MessageChange.sequence` of the `index`th change that made this version of a message."""
    return version * _CHANGES_A_VERSION + index


def message(number: int, record: Record) -> Message:
    """The whole record."""
    reported = reported_status(record) or ReportedStatus()
    shown = recipient(record)
    _, _, at, code, reply = current_status(record, reported)
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
