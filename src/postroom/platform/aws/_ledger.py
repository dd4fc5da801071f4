"""The ledger's items in the table: what they are called, and how they become the model's records.

    H#tenant#campaign            home                 how many batches; `gone` while it is being dropped
    M#tenant#campaign#batch      !batch               fence, lease, open group, touched keys, last count
    M#tenant#campaign#batch      <key in hex>         one message

A batch has a partition of its own: the campaign's writes are spread over all of them, and no partition gets hot. A batch's
record is made by its first opening or count; where there is none, nothing was ever done with the batch.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.batch import BatchSnapshot, Group
from postroom.model.campaign import Home
from postroom.model.message import ERASED, Counts, Message, MessageState, NewMessage, Recipient, Settlement
from postroom.model.shard import KEY_BYTES, Key
from postroom.platform.aws._dynamo import Address, Record, Value

BATCH_SORT = "!batch"  # before every hexadecimal digit
FIRST_KEY = "0"
REPLY_LENGTH = 250
RECIPIENT = ("sk", "line", "address", "name", "values", "state", "attempt")
"""The attributes `recipient` needs."""
STANDING = ("sk", "state", "due")
"""The attributes `Tally.of` needs."""


def home_at(home: Home) -> Address:
    """Where the home's own record is. `Invalid`: such a name could be taken for another's."""
    for part in home:
        if not part.replace("-", "").isalnum() or not part.isascii():
            raise Invalid(f"{part!r} is no id of a tenant or campaign")
    return Address(f"H#{home.tenant}#{home.campaign}", "home")


def batch_at(home: Home, batch: int) -> Address:
    """Where the batch's record is; its messages are in the same partition."""
    return Address(f"M#{home.tenant}#{home.campaign}#{batch}", BATCH_SORT)


def message_at(home: Home, batch: int, key: Key) -> Address:
    """Where the message is."""
    return Address(f"M#{home.tenant}#{home.campaign}#{batch}", key.hex())


class Batch(NamedTuple):
    """A batch's record."""

    number: int
    fence: int
    owner: str | None
    until: Instant | None
    group: Group | None
    touched: tuple[Key, ...]
    """Keys outside the open group that its holder set out to change, and may be changing."""
    touched_fence: int
    due: Instant | None
    """No message has work before: true at every moment; right after a count it is exact."""
    changes: int
    """Rises with each write that a count of before would undo."""
    counts: Counts
    unsettled: int
    opened_by: str
    counted_by: str
    """Marks of the last opening and the last count: whose they were."""

    @property
    def next_due(self) -> Instant | None:
        """When it has work: at once while keys stand open or touched, whatever was counted."""
        return Instant(0) if self.group or self.touched else self.due

    @property
    def in_hands(self) -> bool:
        """Whether the stored count may be from before: somebody holds it, or left it open."""
        return self.owner is not None or self.group is not None or bool(self.touched)

    def held(self, now: Instant, dead: frozenset[str]) -> bool:
        """Whether somebody has a live lease."""
        return self.owner is not None and self.owner not in dead and (self.until or 0) > now

    def snapshot(self) -> BatchSnapshot:
        """As the port shows it."""
        return BatchSnapshot(self.number, self.counts, self.due, self.owner, self.until)


def batch(number: int, record: Record | None) -> Batch:
    """The batch's record, where it has none that of an untouched one."""
    r = record or {}
    keys = r.get("group_keys")
    group = None
    if isinstance(keys, bytes):
        group = Group(str(r["group_owner"]), int(r["group_fence"]), split(keys), Instant(int(r["group_at"])))
    touched = r.get("touched", b"")
    return Batch(
        number,
        int(r.get("fence", 0)),
        text(r, "owner"),
        instant(r, "until"),
        group,
        split(touched) if isinstance(touched, bytes) else (),
        int(r.get("touched_fence", 0)),
        instant(r, "due"),
        int(r.get("changes", 0)),
        Counts(*json.loads(str(r["counts"]))) if "counts" in r else Counts(),
        int(r.get("unsettled", 0)),
        str(r.get("opened_by", "")),
        str(r.get("counted_by", "")),
    )


class Tally(NamedTuple):
    """A batch, counted."""

    counts: Counts
    unsettled: int
    due: Instant | None

    @classmethod
    def of(cls, messages: list[Record], sending: frozenset[str] = frozenset()) -> Tally:
        """Count them; those whose `sk` is in `sending` as that."""
        by_state = [0] * len(MessageState)
        unsettled, due = 0, None
        for message in messages:
            state, message_due = int(message["state"]), instant(message, "due")
            by_state[MessageState.SENDING if message["sk"] in sending else state] += 1
            if state == MessageState.PENDING:
                due = Instant(0)
            elif state in (MessageState.DEFERRED, MessageState.UNKNOWN) and message_due is not None:
                due = message_due if due is None else min(due, message_due)
                unsettled += state == MessageState.UNKNOWN
        return cls(Counts(**{state.label: by_state[state] for state in MessageState}), unsettled, due)

    def attributes(self) -> dict[str, Value | None]:
        """For the batch's record."""
        counts = json.dumps(list(self.counts.as_dict().values()), separators=(",", ":"))
        return {"counts": counts, "unsettled": self.unsettled, "due": self.due}


def stored(home: Home, row: NewMessage, now: Instant) -> dict[str, Value | None]:
    """A new message's item."""
    at = message_at(home, row.batch, row.key)
    head: dict[str, Value | None] = {"pk": at.pk, "sk": at.sk, "stored": now, "state": int(MessageState.PENDING), "attempt": 0}
    return head | {"version": 1} | replaceable(row)


def replaceable(row: NewMessage) -> dict[str, Value | None]:
    """What a row with a lower line replaces."""
    return {"line": row.line, "address": row.address, "name": row.name, "values": row.values}


def settled(settlement: Settlement) -> dict[str, Value | None]:
    """What a settlement makes of the item. `mark` says which one it was, so that a repeat is known for what it is."""
    reply = settlement.reply[:REPLY_LENGTH]
    outcome = [
        settlement.key.hex(),
        int(settlement.state),
        settlement.attempt,
        settlement.at,
        settlement.due,
        settlement.code,
        reply,
        settlement.provider_id,
    ]
    return {
        "state": int(settlement.state),
        "attempt": settlement.attempt,
        "at": settlement.at,
        "due": settlement.due,
        "code": settlement.code or None,
        "reply": reply or None,
        "provider_id": settlement.provider_id,
        "mark": hashlib.blake2b(json.dumps(outcome).encode(), digest_size=9).hexdigest(),
    }


def erased(values: str) -> dict[str, Value | None]:
    """What erasing makes of the item. `mark` stays: a repeated settlement is still known for what it is."""
    return {"address": ERASED, "name": None, "values": values, "reply": None}


def recipient(record: Record) -> Recipient:
    """A message as the sender needs it."""
    return Recipient(
        key_of(record),
        int(record["line"]),
        str(record["address"]),
        text(record, "name"),
        str(record["values"]),
        MessageState(int(record["state"])),
        int(record["attempt"]),
        instant(record, "due"),
    )


def message(number: int, record: Record) -> Message:
    """The whole record."""
    return Message(
        number,
        *recipient(record)[:-1],
        instant(record, "at"),
        instant(record, "due"),
        int(record.get("code", 0)),
        str(record.get("reply", "")),
        text(record, "provider_id"),
    )


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
