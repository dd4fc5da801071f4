"""The functions of callbacks: what the table's stream says becomes requests that are owed, and those are made.

    callbacks-stream    changes → deliveries, durably → a wake on …q-callbacks for the lanes that are owed something
    callbacks-sender    a wake → the requests of these lanes, for a bounded time; each minute: a wake for all that is due

The stream hands the same records out again until the function has ended well, so a store that does not answer delays and loses
nothing. One change that can never be told is left out, with a line and a metric: it must not hold up those after it.

Metrics: `ChangesNotTold`; `CallbackLanesDue` and `OldestDueCallback` (seconds), each minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from postroom.callbacks.dispatcher import Wakeups, parse_wakeup
from postroom.entrypoints.lambdas.given_back import GivenBack, given_back
from postroom.entrypoints.lambdas.observing import count, observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.lambdas.stream_records import changes_in
from postroom.errors import Permanent
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.platform.ports.feed import MessageChange

_ROUND_S: Final = 45.0
_ENDING_S: Final = 25.0
"""Of what is left when a round is over: requests under way, and the stores."""
_log = logging.getLogger(__name__)


@observed("callbacks-stream")
def stream(event: Any, _context: Any) -> None:
    """A batch of the table's stream."""
    opened = postroom()
    lanes = _told(changes_in(event))
    if lanes:
        Wakeups(opened.queues).put(lanes)


@observed("callbacks-sender")
def send(event: Any, context: Any) -> GivenBack:
    """A batch of SQS's, or the event of the rule of each minute."""
    if "Records" not in event:
        looked = postroom().callback_rounds.wake_all()
        count("CallbackLanesDue", looked.due)
        count("OldestDueCallback", looked.oldest_ms / 1000, MetricUnit.Seconds)
        return given_back([])
    seconds = max(1.0, min(_ROUND_S, context.get_remaining_time_in_millis() / 1000 - _ENDING_S))
    named = {record["messageId"]: _named(record) for record in event["Records"]}
    lanes = {lane for each in named.values() for lane in each}
    failed = set(asyncio.run(postroom().callback_rounds.run(lanes, seconds=seconds)))
    return given_back([record for record in event["Records"] if failed.intersection(named[record["messageId"]])])


def _told(changes: Sequence[MessageChange]) -> list[EndpointRef]:
    """Together, so that what travels in one request is the same whenever they come again; or each alone."""
    builder = postroom().callback_teller
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
