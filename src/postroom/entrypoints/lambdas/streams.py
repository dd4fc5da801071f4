"""The functions that read the stream of the DynamoDB table: callbacks and the search index.

    callbacks-stream    changes → callback deliveries, durably → a wakeup on …q-callbacks for each endpoint with new deliveries
    callbacks-sender    a wakeup → the requests of these endpoints, for a bounded time; each minute: a wakeup for all that is due
    indexer             changes → documents of the search index

The stream delivers the same records again until the function succeeds, so an unavailable store delays and loses nothing. A record
that cannot be read, or a change that cannot be delivered, is left out, logged and counted: it must not block those after it. A
document of an older change never replaces a newer one, so a batch may be indexed any number of times.

Metrics: `RecordsNotRead`; `ChangesNotTold`; `CallbackEndpointsDue` and `OldestDueCallback` (seconds), each minute;
`DocumentsIndexed`, `DocumentsRefused`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from postroom.callbacks.dispatcher import Wakeups, parse_wakeup
from postroom.entrypoints.lambdas.runtime import BatchResponse, batch_failures, container, count, observed
from postroom.errors import Permanent
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.platform.ports.feed import MessageChange
from postroom.telemetry.logs import event_logger
from postroom.wiring.aws import changes_of, search_index

_log = event_logger(__name__)


def changes_in(event: Any) -> list[MessageChange]:
    """Return the message changes of an event, in the order of the stream."""
    records: Sequence[Any] = event["Records"]
    try:
        return changes_of(records)
    except (Permanent, ValueError, LookupError) as error:
        _log.warning("stream.batch_unreadable", reason=str(error))
    return [change for record in records for change in _changes_of_one(record)]


def _changes_of_one(record: Any) -> Sequence[MessageChange]:
    try:
        return changes_of([record])
    except (Permanent, ValueError, LookupError):
        _log.exception("stream.record_unreadable", record=record.get("eventID", "") if isinstance(record, dict) else "")
        count("RecordsNotRead")
        return []


_SEND_S: Final = 45.0
_ENDING_S: Final = 25.0
"""Time left after the requests' deadline: for requests under way, and the stores."""


@observed("callbacks-stream")
def enqueue_callbacks(event: Any, _context: Any) -> None:
    """Handles a batch of the table's stream."""
    endpoints = _enqueue(changes_in(event))
    if endpoints:
        Wakeups(container().queues).put(endpoints)


@observed("callbacks-sender")
def send_callbacks(event: Any, context: Any) -> BatchResponse:
    """Handles a batch of SQS, or the event of the rule of each minute."""
    if "Records" not in event:
        looked = container().callback_dispatcher.wake_all()
        count("CallbackEndpointsDue", looked.due)
        count("OldestDueCallback", looked.oldest_ms / 1000, MetricUnit.Seconds)
        return batch_failures([])
    seconds = max(1.0, min(_SEND_S, context.get_remaining_time_in_millis() / 1000 - _ENDING_S))
    wakeups = {record["messageId"]: _endpoints_of(record) for record in event["Records"]}
    endpoints = {endpoint for each in wakeups.values() for endpoint in each}
    failed = set(asyncio.run(container().callback_dispatcher.run(endpoints, seconds=seconds)))
    return batch_failures([record for record in event["Records"] if failed.intersection(wakeups[record["messageId"]])])


def _enqueue(changes: Sequence[MessageChange]) -> list[EndpointRef]:
    """Create deliveries of all changes together, so that a repeated batch makes the same requests; or of each if that fails."""
    builder = container().delivery_builder
    try:
        return builder.create(builder.group_by_endpoint(changes))
    except Permanent as error:
        _log.warning("callbacks.batch_failed", reason=str(error))
    endpoints = list[EndpointRef]()
    for change in changes:
        try:
            endpoints += builder.create(builder.group_by_endpoint([change]))
        except Permanent:
            _log.exception("callbacks.change_dropped", message=change.key.hex(), campaign=change.ref.campaign)
            count("ChangesNotTold")
    return endpoints


def _endpoints_of(record: Any) -> Sequence[EndpointRef]:
    """Return the endpoints of a wakeup; none if it cannot be read."""
    try:
        return parse_wakeup(record["body"])
    except Permanent as error:
        _log.error("callbacks.wakeup_unreadable", reason=str(error))
        return []


@observed("indexer")
def index_messages(event: Any, _context: Any) -> None:
    """Handles a batch of the table's stream."""
    changes = changes_in(event)
    if changes:
        refused = _index().put(changes)
        count("DocumentsIndexed", len(changes) - refused)
        count("DocumentsRefused", refused)


_index = cache(lambda: search_index(container().settings))
