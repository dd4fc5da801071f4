"""What an alarm of CloudWatch says, and what PagerDuty is told of it: an incident opens when it rings and closes when it ends.

An alarm's ARN is the incident's key, so one that rings again, or is told twice, opens no second one. PagerDuty's "Events API v2"
names the fields; an alarm's message is in CloudWatch's user guide ("Notify users on alarm changes").
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from postroom.errors import Invalid

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
_SUMMARY = 1_024
_HANDBOOK = "docs/how-to/run-on-aws.md"


class AlarmState(StrEnum):
    """What CloudWatch knows."""

    RINGS = "ALARM"
    WELL = "OK"
    UNKNOWN = "INSUFFICIENT_DATA"


class Alarm(NamedTuple):
    """One, as it stands now."""

    name: str
    arn: str
    state: AlarmState
    means: str
    """What whoever made it says of it: what it means, and what to do."""
    reason: str
    at: str


class _Wire(msgspec.Struct, rename="pascal"):
    alarm_name: str
    alarm_arn: str
    new_state_value: AlarmState
    alarm_description: str | None = None
    new_state_reason: str = ""
    state_change_time: str = ""


_DECODER = msgspec.json.Decoder(_Wire)


def read_alarm(message: str) -> Alarm:
    """Of an SNS message; `Invalid`: it is none."""
    try:
        wire = _DECODER.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Invalid(f"this is no alarm of CloudWatch: {error}") from error
    means = wire.alarm_description or ""
    return Alarm(wire.alarm_name, wire.alarm_arn, wire.new_state_value, means, wire.new_state_reason, wire.state_change_time)


def incident(alarm: Alarm, routing_key: str) -> dict[str, Any] | None:
    """What PagerDuty is told; None: nothing. Missing data neither opens nor closes."""
    if alarm.state is AlarmState.UNKNOWN:
        return None
    told: dict[str, Any] = {"routing_key": routing_key, "dedup_key": alarm.arn[:255]}
    if alarm.state is AlarmState.WELL:
        return {**told, "event_action": "resolve"}
    details = {"means": alarm.means, "reason": alarm.reason, "since": alarm.at, "alarm": alarm.arn, "handbook": _HANDBOOK}
    payload = {
        "summary": f"{alarm.name}: {alarm.means or alarm.reason}"[:_SUMMARY],
        "source": alarm.arn,
        "severity": "critical",
        "component": "postroom",
        "custom_details": details,
    }
    return {**told, "event_action": "trigger", "payload": payload}
