"""The function `events`: applies feedback from two queues to the records.

    …q-notices     SES notifications; the queue's policy lets only the SNS topic of SES send to it
    …q-feedback    inbound events of tracking and unsubscribing

Items are applied together, or one by one if that fails. Only items that failed are returned to the queue; after five tries an
item becomes a dead letter. A message of SES that is no notification, or belongs to no message of ours, is dropped and logged. The
counts that the reputation guard reads are written before the call ends, since nothing runs between calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from postroom.entrypoints.lambdas.runtime import BatchResponse, batch_failures, container, count, observed, queue_of
from postroom.errors import PostroomError
from postroom.ledger.inbound_events import InboundEvent, parse_inbound_events
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

NOTICES: Final = "notices"
_log = event_logger(__name__)


@observed("events")
def handler(event: Any, _context: Any) -> BatchResponse:
    """Handles a batch of SQS."""
    app, records = container(), event["Records"]
    items = [_read(app, record) for record in records]
    problems = app.feedback.record(items)
    app.rate_recorder.try_flush()
    failed = [record for record, problem in zip(records, problems, strict=True) if problem is not None]
    for record, problem in zip(records, problems, strict=True):
        if problem is not None:
            _log.warning("feedback.item_deferred", item=record["messageId"], reason=str(problem))
    count("Arrivals", sum(len(item) for item in items if not isinstance(item, PostroomError)))
    count("ItemsGivenBack", len(failed))
    return batch_failures(failed)


def _read(app: Container, record: Any) -> Sequence[InboundEvent] | PostroomError:
    try:
        return (
            app.ses_webhook.parse_queued(record["body"]) if queue_of(record) == NOTICES else parse_inbound_events(record["body"])
        )
    except PostroomError as error:
        return error
