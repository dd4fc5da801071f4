"""Timers whose schedule fires, or is changed by others, at the very moment it is set; and answers that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from botocore.stub import Stubber

from postroom.clock import Instant
from postroom.errors import Corrupt, Unavailable, Unsupported
from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.aws.timers import SchedulerTimers
from tests.aws.faults import LostAnswers
from tests.contract.aws_backend import AwsBackend
from tests.fakes.clock import START, ManualClock

ACCOUNT = AwsAccount("us-east-1", "http://127.0.0.1:9", "key", "secret")
PREFIX = "arn:aws:sqs:us-east-1:123456789012:p-"
TAKEN, ABSENT = "ConflictException", "ResourceNotFoundException"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def timers(clock: ManualClock) -> Iterator[tuple[SchedulerTimers, Stubber, Stubber]]:
    scheduler, sqs = ACCOUNT.scheduler(), ACCOUNT.sqs()
    with closing(scheduler), closing(sqs), Stubber(scheduler) as stub, Stubber(sqs) as queue:
        yield SchedulerTimers(scheduler, SqsQueues(sqs, PREFIX, clock), clock, group="g", role="arn:role"), stub, queue


@pytest.mark.parametrize(
    ("ahead_ms", "second"),
    [(60_000, "14:14:20"), (60_001, "14:14:21"), (59_999, "14:14:20"), (5_000, "14:13:25"), (1, "14:13:25")],
)
def test_what_a_schedule_says(timers: tuple[SchedulerTimers, Stubber, Stubber], ahead_ms: int, second: str) -> None:
    """Whole seconds of UTC, never early, and still to come when AWS reads it."""
    subject, stub, _ = timers
    expected = {
        "Name": "one",
        "GroupName": "g",
        "Description": str(START + ahead_ms),
        "ScheduleExpression": f"at(2026-09-21T{second})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": PREFIX + "q-due",
            "RoleArn": "arn:role",
            "Input": '"\\u003caws.scheduler.execution-id>"',
            "DeadLetterConfig": {"Arn": PREFIX + "d-due"},
            "RetryPolicy": {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185},
        },
    }
    stub.add_response("create_schedule", {"ScheduleArn": "arn:one"}, expected)
    subject.set("one", Instant(START + ahead_ms), "due", '"<aws.scheduler.execution-id>"')
    stub.assert_no_pending_responses()


def test_a_timer_that_fires_while_it_is_set_again_is_made_anew(timers: tuple[SchedulerTimers, Stubber, Stubber]) -> None:
    subject, stub, _ = timers
    stub.add_client_error("create_schedule", TAKEN)
    stub.add_client_error("update_schedule", ABSENT)
    stub.add_response("create_schedule", {"ScheduleArn": "arn:one"})
    subject.set("one", later(), "due", "1")
    stub.assert_no_pending_responses()


def test_a_timer_that_others_keep_changing_is_unavailable(
    timers: tuple[SchedulerTimers, Stubber, Stubber], clock: ManualClock
) -> None:
    subject, stub, _ = timers
    for _ in range(6):
        stub.add_client_error("create_schedule", TAKEN)
        stub.add_client_error("update_schedule", TAKEN)
    with pytest.raises(Unavailable):
        subject.set("one", later(), "due", "1")
    for _ in range(6):
        stub.add_client_error("delete_schedule", TAKEN)
    with pytest.raises(Unavailable):
        subject.cancel("one")
    assert len(clock.slept) == 12
    stub.assert_no_pending_responses()


def test_a_time_in_the_past_is_on_the_queue_before_the_older_schedule_goes(
    timers: tuple[SchedulerTimers, Stubber, Stubber],
) -> None:
    subject, stub, queue = timers
    queue.add_response("get_queue_url", {"QueueUrl": "http://q/live"})
    queue.add_client_error("send_message_batch", "ServiceUnavailable")
    with pytest.raises(Unavailable):
        subject.set("one", Instant(1), "due", "1")
    queue.add_response("send_message_batch", {"Successful": [], "Failed": []})
    stub.add_client_error("delete_schedule", ABSENT)
    subject.set("one", Instant(1), "due", "1")
    queue.assert_no_pending_responses()
    stub.assert_no_pending_responses()


def test_without_its_group_no_timer_is_set(timers: tuple[SchedulerTimers, Stubber, Stubber]) -> None:
    subject, stub, _ = timers
    stub.add_client_error("create_schedule", ABSENT)
    with pytest.raises(Unsupported):
        subject.set("one", later(), "due", "1")


def test_a_schedule_that_somebody_changed_by_hand_is_not_guessed_at(timers: tuple[SchedulerTimers, Stubber, Stubber]) -> None:
    subject, stub, _ = timers
    stub.add_response("get_schedule", {"Description": "mine"})
    with pytest.raises(Corrupt):
        subject.get("one")


@pytest.mark.usefixtures("no_backoff")
def test_lost_answers_change_nothing(backend: AwsBackend) -> None:
    timers = backend.timers()
    lost = LostAnswers(timers._client, "CreateSchedule", "UpdateSchedule", "DeleteSchedule")
    first, second = (Instant(backend.clock.now() + ms) for ms in (60_000, 90_000))
    timers.set("one", first, "due", "1")
    assert timers.get("one") == first
    timers.set("one", second, "due", "2")
    assert timers.get("one") == second
    timers.cancel("one")
    assert timers.get("one") is None
    assert lost.lost >= 3


def later() -> Instant:
    return Instant(START + 3_600_000)
