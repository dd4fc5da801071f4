"""The function `alarms`: logs the messages of the stage's alert topic, and sends them to PagerDuty if a routing key is set.

PagerDuty identifies an incident by the alarm's ARN, so sending an event twice is harmless. If PagerDuty does not take an event,
the call fails and Lambda repeats it; an event that never gets through goes to the dead letters of functions.

Metrics: `AlarmsRinging`, `AlarmsEnded`.
"""

from __future__ import annotations

from typing import Any

from postroom.entrypoints.lambdas.runtime import container, count, observed
from postroom.errors import Invalid
from postroom.events.alarms import AlarmState, pagerduty_event, parse_alarm
from postroom.telemetry.logs import event_logger
from postroom.wiring.aws import Pager, pager

_METRICS = {AlarmState.ALARM: "AlarmsRinging", AlarmState.OK: "AlarmsEnded"}
_log = event_logger(__name__)


@observed("alarms")
def handler(event: Any, _context: Any) -> None:
    """Handles an event of SNS."""
    to = pager(container().settings)
    for record in event["Records"]:
        _forward(record["Sns"]["Message"], to)


def _forward(message: str, to: Pager | None) -> None:
    try:
        alarm = parse_alarm(message)
    except Invalid as error:
        _log.warning("alarm.message_ignored", reason=str(error))
        return
    log = _log.error if alarm.state is AlarmState.ALARM else _log.warning
    log("alarm.changed", alarm=alarm.name, state=alarm.state, reason=alarm.description or alarm.reason)
    if alarm.state in _METRICS:
        count(_METRICS[alarm.state])
    if to is not None and (event := pagerduty_event(alarm, to.routing_key)) is not None:
        to.send(event)
