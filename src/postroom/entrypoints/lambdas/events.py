"""The function `events`: what came back, from two queues into the records.

    …q-notices     what SES says, put there by its SNS topic and, by the queue's policy, nobody else
    …q-feedback    arrivals: what tracking and unsubscribing heard

Items are applied together, or each by itself where that fails. Those that did not go are given back alone: what can never be
applied becomes a dead letter after five times. A word of SES that is no notice, or is of no message of ours, is dropped with a
line in the log. What the guard goes by is written before the call ends, since nothing runs between calls.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from postroom.entrypoints.lambdas.runtime import BatchResponse, batch_failures, container, count, observed, queue_of
from postroom.errors import PostroomError
from postroom.ledger.inbound_events import InboundEvent, parse_inbound_events
from postroom.wiring import Container

NOTICES: Final = "notices"
_log = logging.getLogger(__name__)


@observed("events")
def handler(event: Any, _context: Any) -> BatchResponse:
    """A batch of SQS's."""
    opened, records = container(), event["Records"]
    items = [_read(opened, record) for record in records]
    problems = opened.feedback.record(items)
    opened.rate_recorder.try_flush()
    failed = [record for record, problem in zip(records, problems, strict=True) if problem is not None]
    for record, problem in zip(records, problems, strict=True):
        if problem is not None:
            _log.warning("item %s comes again: %s", record["messageId"], problem)
    count("Arrivals", sum(len(item) for item in items if not isinstance(item, PostroomError)))
    count("ItemsGivenBack", len(failed))
    return batch_failures(failed)


def _read(opened: Container, record: Any) -> Sequence[InboundEvent] | PostroomError:
    try:
        return (
            opened.ses_webhook.parse_queued(record["body"])
            if queue_of(record) == NOTICES
            else parse_inbound_events(record["body"])
        )
    except PostroomError as error:
        return error
