"""From a record of the table's stream to changes of the feed (ports.feed): pure, whoever brings the record.

The stream has a record for each write of each item, with the item before and after, in the order of the writes within a
partition; a message is one item, and its events beside it stand in the same partition. What a write tells is what the item
gained by it:

    no item before                 the message was stored
    another line                   a row with a lower line took its place, untried
    more events in `heard`         each of them, with where it puts the message
    another `mark`                 its worker settled it; where news are ahead of that, the outcome is told as the event it is
    the address is `ERASED`        nothing of the person, any more
    an event's item is new         the event, by what `stands` on it: where it put the message

Fences, leases, counts, documents: no change of a message. A record that comes again makes the same changes, sequence included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from postroom.clock import Instant
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.event_text import parse_event
from postroom.model.message import ERASED, MessageStatus, Settlement
from postroom.model.news import News, event_of
from postroom.model.shard import Key
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Record, decode
from postroom.platform.ports.feed import Change

_A_SECOND_MS = 1_000


def changes(record: Mapping[str, Any]) -> list[Change]:
    """What one record tells of messages, as GetRecords gives it or as Lambda is given it."""
    told = record["dynamodb"]
    partition, sort = str(told["Keys"]["pk"]["S"]), str(told["Keys"]["sk"]["S"])
    if "NewImage" not in told or not partition.startswith(_ledger.BATCH_PARTITION):
        return []
    noted_at = _noted_at(told["ApproximateCreationDateTime"])
    if sort.startswith(_ledger.EVENT_SORT):
        return [] if "OldImage" in told else list(_beside(partition, decode(told["NewImage"]), noted_at))
    if sort < _ledger.FIRST_KEY:
        return []
    old = decode(told["OldImage"]) if "OldImage" in told else None
    return list(_of_message(partition, old, decode(told["NewImage"]), noted_at))


def _of_message(partition: str, old: Record | None, new: Record, noted_at: Instant) -> Iterator[Change]:
    news = _ledger.news(new) or News()
    if old is None or old["line"] != new["line"]:
        yield _change(partition, new, news, noted_at, at=_ledger.instant(new, "stored"))
    elif new["address"] == ERASED and (old["address"] != ERASED or old["values"] != new["values"]):
        yield _change(partition, new, news, noted_at, at=noted_at)
    elif old.get("mark") != new.get("mark"):
        overtaken = news.ahead_of(_ledger.outcome(new)) is not None
        yield _change(partition, new, news, noted_at, event=_settled(new) if overtaken else None)
    elif old.get("heard") != new.get("heard"):
        yield from _gained(partition, old, new, noted_at)


def _gained(partition: str, old: Record, new: Record, noted_at: Instant) -> Iterator[Change]:
    """Events are added at the end: what stands behind those of before."""
    news = _ledger.news(old) or News()
    for index, event in enumerate(_ledger.heard(new)[len(_ledger.heard(old)) :]):
        news = news.hear(event)
        yield _change(partition, new, news, noted_at, event=event, index=index)


def _beside(partition: str, item: Record, noted_at: Instant) -> Iterator[Change]:
    if "stands" not in item:  # our worker's own: its message's change tells of it
        return
    ref, batch = _ref(partition)
    key = Key(bytes.fromhex(str(item["sk"]).split("#")[1]))
    state, attempt, at, code, reply, sequence = json.loads(str(item["stands"]))
    event = replace(parse_event(str(item["event"])), raw="")
    at = noted_at if at is None else Instant(at)
    yield Change(ref, batch, key, MessageStatus(state), attempt, at, code, reply, event, sequence, noted_at)


def _change(
    partition: str,
    new: Record,
    news: News,
    noted_at: Instant,
    *,
    at: Instant | None = None,
    event: Event | None = None,
    index: int = 0,
) -> Change:
    ref, batch = _ref(partition)
    state, attempt, since, code, reply = _ledger.stands(new, news)
    told = None if event is None else replace(event, raw="")
    when = at if at is not None else since if since is not None else noted_at
    sequence = _ledger.sequence(int(new["version"]), index)
    return Change(ref, batch, _ledger.key_of(new), state, attempt, when, code, reply, told, sequence, noted_at)


def _settled(record: Record) -> Event | None:
    """The outcome that the record holds, as an event."""
    attempt, state = _ledger.outcome(record)
    at, code, reply = Instant(int(record["at"])), int(record.get("code", 0)), str(record.get("reply", ""))
    return event_of(Settlement(_ledger.key_of(record), state, attempt, at, None, code, reply))


def _ref(partition: str) -> tuple[CampaignRef, int]:
    _, tenant, campaign, batch = partition.split("#")
    return CampaignRef(tenant, campaign), int(batch)


def _noted_at(said: datetime | float) -> Instant:
    """The stream tells whole seconds. The end of that second: nobody who was there when it was written came after it."""
    ms = int((said.timestamp() if isinstance(said, datetime) else said) * _A_SECOND_MS)
    return Instant(ms + _A_SECOND_MS - 1 if ms % _A_SECOND_MS == 0 else ms)
