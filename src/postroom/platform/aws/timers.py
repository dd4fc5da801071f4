"""`ports.timers` in the EventBridge Scheduler: one-time schedules that send their body to a queue and are deleted.

    set      create; if the name is taken, update; if it fired in between, create again. A repeat of either changes nothing.
    past     sent to the queue at once, without a schedule: the Scheduler takes up to a minute, and does not document what it does
             with a time in the past. An older timer of that name is cancelled after that: a crash in between fires both, never
             none.
    firing   within the minute that the schedule names (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html);
             tried for a day, then a dead letter of the queue, where `redrive` finds it

A schedule has whole seconds (https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html), so the time is
rounded up, and is a few seconds ahead so that it is still in the future when AWS has it. The requested time, to the
millisecond, is in the schedule's description. All times are UTC. The queue must exist before a timer fires: the stack deploys it.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, Invalid, Unavailable
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.ports.limits import check_name
from postroom.platform.ports.queues import check_body
from postroom.platform.ports.timers import MAX_AHEAD_MS

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

_AHEAD_MS = 5_000
_RETRIED_S = 86_400  # the maximum: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html
_RETRIES = 185
_TRIES = 6
_PAUSE_S = 0.1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TAKEN = "ConflictException"  # at a creation: the name is taken; at an update or deletion: a concurrent change
_ABSENT = "ResourceNotFoundException"
# Context attributes that the Scheduler would replace
# (https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html). JSON has `<` only in
# strings, where it may be escaped.
_KEYWORD, _ESCAPED = "<aws.scheduler.", "\\u003caws.scheduler."


class SchedulerTimers:
    """`ports.timers.Timers` in one schedule group."""

    def __init__(self, client: EventBridgeSchedulerClient, queues: SqsQueues, clock: Clock, *, group: str, role: str) -> None:
        """`group`: name of the schedule group. `role`: ARN of the role that the Scheduler assumes to send."""
        self._client = client
        self._queues = queues
        self._clock = clock
        self._group = group
        self._role = role

    def set(self, name: str, at: Instant, queue: str, body: str) -> None:
        check_name(name, "timer")
        check_name(queue, "queue")
        check_body(body)
        now = self._clock.now()
        if at > now + MAX_AHEAD_MS:
            raise Invalid(f"Timer {name} is set more than {MAX_AHEAD_MS // 86_400_000} days ahead.")
        if at <= now:
            self._queues.send(queue, [body])
            self.cancel(name)
        else:
            self._store(name, self._schedule(max(at, now + _AHEAD_MS), at, queue, body))

    def _store(self, name: str, schedule: dict[str, Any]) -> None:
        for attempt in range(_TRIES):
            refused = self._refused("create_schedule", (_TAKEN,), Name=name, **schedule)
            if refused == _TAKEN:
                refused = self._refused("update_schedule", (_TAKEN, _ABSENT), Name=name, **schedule)
            if refused is None:
                return
            self._pause(attempt)
        raise Unavailable(f"timer {name} is being changed all the time: it was not set")

    def cancel(self, name: str) -> None:
        check_name(name, "timer")
        for attempt in range(_TRIES):
            if self._refused("delete_schedule", (_TAKEN, _ABSENT), Name=name, GroupName=self._group) != _TAKEN:
                return
            self._pause(attempt)
        raise Unavailable(f"timer {name} is being changed all the time: it was not cancelled")

    def get(self, name: str) -> Instant | None:
        check_name(name, "timer")
        with aws_errors(f"reading timer {name}"):
            try:
                asked = self._client.get_schedule(Name=name, GroupName=self._group).get("Description", "")
            except ClientError as error:
                if error_code(error) != _ABSENT:
                    raise
                return None
        if not asked.isdecimal():
            raise Corrupt(
                f"the schedule {name} of group {self._group} has no time in its description: it was changed outside Postroom"
            )
        return Instant(int(asked))

    def _refused(self, operation: str, answers: tuple[str, ...], **parameters: Any) -> str | None:
        """Call the operation. Returns the error code if it is one of `answers`, else None."""
        with aws_errors(f"calling {operation} for timer {parameters['Name']}"):
            try:
                getattr(self._client, operation)(**parameters)
            except ClientError as error:
                if error_code(error) not in answers:
                    raise
                return error_code(error)
        return None

    def _schedule(self, when: int, asked: Instant, queue: str, body: str) -> dict[str, Any]:
        second = _EPOCH + timedelta(seconds=-(-when // 1_000))
        return {
            "GroupName": self._group,
            "Description": str(asked),
            "ScheduleExpression": f"at({second:%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {
                "Arn": self._queues.arn(queue),
                "RoleArn": self._role,
                "Input": body.replace(_KEYWORD, _ESCAPED),
                "DeadLetterConfig": {"Arn": self._queues.arn(queue, dead=True)},
                "RetryPolicy": {"MaximumEventAgeInSeconds": _RETRIED_S, "MaximumRetryAttempts": _RETRIES},
            },
        }

    def _pause(self, attempt: int) -> None:
        self._clock.sleep(_PAUSE_S * 2**attempt * (0.5 + random.random() / 2))  # noqa: S311 - jitter
