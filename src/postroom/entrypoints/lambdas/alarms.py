"""The function `alarms`: what the stage's alert topic says, into the log, and to PagerDuty where a routing key is set.

PagerDuty knows an incident by the alarm's ARN, so telling it twice is harmless. Where it does not take what it is told the call
fails, and is made again; what never gets through is in the dead letters of functions.

Metrics: `AlarmsRinging`, `AlarmsEnded`.
"""

from __future__ import annotations

import logging
from typing import Any

from postroom.entrypoints.lambdas.runtime import container, count, observed
from postroom.errors import Invalid
from postroom.events.alarms import AlarmState, pagerduty_event, parse_alarm
from postroom.wiring.aws import Pager, pager

_METRICS = {AlarmState.ALARM: "AlarmsRinging", AlarmState.OK: "AlarmsEnded"}
_log = logging.getLogger(__name__)


@observed("alarms")
def handler(event: Any, _context: Any) -> None:
    """A message of SNS's."""
    to = pager(container().settings)
    for record in event["Records"]:
        _tell(record["Sns"]["Message"], to)


def _tell(message: str, to: Pager | None) -> None:
    try:
        alarm = parse_alarm(message)
    except Invalid as error:
        _log.warning("a message of the alert topic is not told on: %s", error)
        return
    rings = alarm.state is AlarmState.ALARM
    _log.log(logging.ERROR if rings else logging.WARNING, "%s %s: %s", alarm.name, alarm.state, alarm.description or alarm.reason)
    if alarm.state in _METRICS:
        count(_METRICS[alarm.state])
    if to is not None and (told := pagerduty_event(alarm, to.routing_key)) is not None:
        to.send(told)
