"""Turns a CloudWatch alarm into a PagerDuty event: an incident opens with the alarm and is resolved when it ends.

The alarm's ARN is the incident's key, so a repeated alarm opens no second incident.

The event has the fields of PagerDuty's Events API v2. Alarms:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from postroom.errors import Invalid

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
_MAX_SUMMARY = 1_024
_HANDBOOK = "docs/how-to/run-on-aws.md"


class AlarmState(StrEnum):
    """The state of a CloudWatch alarm."""

    ALARM = "ALARM"
    OK = "OK"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class Alarm(NamedTuple):
    """A CloudWatch alarm's state change."""

    name: str
    arn: str
    state: AlarmState
    description: str
    """The alarm's description: what it means, and what to do."""
    reason: str
    at: str


class _Json(msgspec.Struct, rename="pascal"):
    alarm_name: str
    alarm_arn: str
    new_state_value: AlarmState
    alarm_description: str | None = None
    new_state_reason: str = ""
    state_change_time: str = ""


_DECODER = msgspec.json.Decoder(_Json)


def parse_alarm(message: str) -> Alarm:
    """Parse the message of an SNS notification. Raises `Invalid` if it is no alarm."""
    try:
        data = _DECODER.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Invalid(f"this is no CloudWatch alarm: {error}") from error
    description = data.alarm_description or ""
    return Alarm(
        data.alarm_name, data.alarm_arn, data.new_state_value, description, data.new_state_reason, data.state_change_time
    )


def pagerduty_event(alarm: Alarm, routing_key: str) -> dict[str, Any] | None:
    """The PagerDuty event; None for missing data, which neither opens nor closes an incident."""
    if alarm.state is AlarmState.INSUFFICIENT_DATA:
        return None
    event: dict[str, Any] = {"routing_key": routing_key, "dedup_key": alarm.arn[:255]}
    if alarm.state is AlarmState.OK:
        return {**event, "event_action": "resolve"}
    details = {"means": alarm.description, "reason": alarm.reason, "since": alarm.at, "alarm": alarm.arn, "handbook": _HANDBOOK}
    payload = {
        "summary": f"{alarm.name}: {alarm.description or alarm.reason}"[:_MAX_SUMMARY],
        "source": alarm.arn,
        "severity": "critical",
        "component": "postroom",
        "custom_details": details,
    }
    return {**event, "event_action": "trigger", "payload": payload}
