"""What a batch of the table's stream tells of messages.

A record that cannot be read is left out, with a line and a metric (`RecordsNotRead`): the stream hands a batch out again until
its function ends well, and nothing after it may wait for that.

The functions of callbacks: what the table's stream says becomes requests that are owed, and those are made.

    callbacks-stream    changes → deliveries, durably → a wake on …q-callbacks for the lanes that are owed something
    callbacks-sender    a wake → the requests of these lanes, for a bounded time; each minute: a wake for all that is due

The stream hands the same records out again until the function has ended well, so a store that does not answer delays and loses
nothing. One change that can never be told is left out, with a line and a metric: it must not hold up those after it.

Metrics: `ChangesNotTold`; `CallbackLanesDue` and `OldestDueCallback` (seconds), each minute.

The function `indexer`: messages as they stand, into the search index.

Called with a batch of the table's stream. A document of an older change never replaces a newer one, so a batch may come again as
often as it likes; where the index does not answer, it does. What the index refuses for good is left out, with a metric.

Metrics: `DocumentsIndexed`, `DocumentsRefused`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from postroom.callbacks.dispatcher import Wakeups, parse_wakeup
from postroom.entrypoints.lambdas.runtime import BatchResponse, batch_failures, container, count, observed
from postroom.errors import Permanent
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.platform.ports.feed import MessageChange
from postroom.wiring.aws import changes_of, search_index

_log = logging.getLogger(__name__)


def changes_in(event: Any) -> list[MessageChange]:
    """In the stream's order."""
    records: Sequence[Any] = event["Records"]
    try:
        return changes_of(records)
    except (Permanent, ValueError, LookupError) as error:
        _log.warning("a batch of the stream cannot be read together: %s", error)
    return [change for record in records for change in _of(record)]


def _of(record: Any) -> Sequence[MessageChange]:
    try:
        return changes_of([record])
    except (Permanent, ValueError, LookupError):
        _log.exception("a record of the stream cannot be read: %s", record.get("eventID", "") if isinstance(record, dict) else "")
        count("RecordsNotRead")
        return []


_ROUND_S: Final = 45.0
_ENDING_S: Final = 25.0
"""Of what is left when a round is over: requests under way, and the stores."""


@observed("callbacks-stream")
def enqueue_callbacks(event: Any, _context: Any) -> None:
    """A batch of the table's stream."""
    opened = container()
    lanes = _told(changes_in(event))
    if lanes:
        Wakeups(opened.queues).put(lanes)


@observed("callbacks-sender")
def send_callbacks(event: Any, context: Any) -> BatchResponse:
    """A batch of SQS's, or the event of the rule of each minute."""
    if "Records" not in event:
        looked = container().callback_dispatcher.wake_all()
        count("CallbackLanesDue", looked.due)
        count("OldestDueCallback", looked.oldest_ms / 1000, MetricUnit.Seconds)
        return batch_failures([])
    seconds = max(1.0, min(_ROUND_S, context.get_remaining_time_in_millis() / 1000 - _ENDING_S))
    named = {record["messageId"]: _named(record) for record in event["Records"]}
    lanes = {lane for each in named.values() for lane in each}
    failed = set(asyncio.run(container().callback_dispatcher.run(lanes, seconds=seconds)))
    return batch_failures([record for record in event["Records"] if failed.intersection(named[record["messageId"]])])


def _told(changes: Sequence[MessageChange]) -> list[EndpointRef]:
    """Together, so that what travels in one request is the same whenever they come again; or each alone."""
    builder = container().delivery_builder
    try:
        return builder.create(builder.group_by_endpoint(changes))
    except Permanent as error:
        _log.warning("what happened cannot be told together: %s", error)
    lanes = list[EndpointRef]()
    for change in changes:
        try:
            lanes += builder.create(builder.group_by_endpoint([change]))
        except Permanent:
            _log.exception("what happened to message %s of campaign %s cannot be told", change.key.hex(), change.ref.campaign)
            count("ChangesNotTold")
    return lanes


def _named(record: Any) -> Sequence[EndpointRef]:
    """What cannot be read was not put there by us: nothing."""
    try:
        return parse_wakeup(record["body"])
    except Permanent as error:
        _log.error("%s", error)
        return []


@observed("indexer")
def index_messages(event: Any, _context: Any) -> None:
    """A batch of the table's stream."""
    changes = changes_in(event)
    if changes:
        refused = _index().put(changes)
        count("DocumentsIndexed", len(changes) - refused)
        count("DocumentsRefused", refused)


_index = cache(lambda: search_index(container().settings))
