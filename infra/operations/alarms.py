"""Alarms: each says what it means for people and where to look, and tells the stage's alert topic when it rings and when it ends.

Missing data is no alarm where nothing happening is the ordinary state. Rates are computed over five minutes with enough calls
behind them that one failure in a quiet night raises no alarm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.operations.watch import Limits, Watched

NAMESPACE = "Postroom"
"""Of the metrics that functions write themselves (EMF)."""
_FIVE_MINUTES = Duration.minutes(5)
_HANDBOOK = "docs/how-to/run-on-aws.md"
_FEW = 20
"""Calls in five minutes, below which a rate says nothing."""


class _Alarm(NamedTuple):
    """One alarm, not yet made."""

    id: str
    metric: cloudwatch.IMetric
    above: float
    means: str
    periods: int = 1


def add_alarms(scope: Construct, watched: Watched, limits: Limits, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """All of them."""
    return [_made(scope, watched, alarm, topic) for alarm in _alarms(watched, limits)]


def _alarms(watched: Watched, limits: Limits) -> Iterator[_Alarm]:
    yield from _queues(watched, limits)
    yield from _functions(watched, limits)
    yield from _machines(watched)
    yield from _api(watched, limits)
    yield from _mail(watched, limits)
    yield _Alarm(
        "TableThrottled",
        _metric("AWS/DynamoDB", "ThrottledRequests", {"TableName": watched.table}),
        _FEW,
        "DynamoDB slows the table: a new one grows to its traffic within minutes; if it stays, raise its warm throughput",
        periods=3,
    )
    yield _Alarm(
        "Cost",
        _metric("AWS/Billing", "EstimatedCharges", {"Currency": "USD"}, statistic="Maximum", period=Duration.hours(6)),
        limits.cost_usd,
        "the account's bill of this month is higher than expected",
    )


def _queues(watched: Watched, limits: Limits) -> Iterator[_Alarm]:
    for queue in watched.dead_queues:
        yield _Alarm(
            f"Dead-{queue}",
            _metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": queue}, statistic="Maximum"),
            0,
            f"something could not be handled five times and waits in {queue}: look into it, then redrive",
        )
    for queue in watched.queues:
        yield _Alarm(
            f"Late-{queue}",
            _metric("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": queue}, statistic="Maximum"),
            limits.oldest_s,
            f"the oldest item of {queue} waits too long: its function fails, is throttled, or cannot keep up",
        )


def _functions(watched: Watched, limits: Limits) -> Iterator[_Alarm]:
    for function in watched.functions:
        yield _Alarm(
            f"Failing-{function}", error_rate(function), limits.error_rate, f"{function} fails: its log says why", periods=2
        )
        yield _Alarm(
            f"Throttled-{function}",
            _metric("AWS/Lambda", "Throttles", {"FunctionName": function}),
            _FEW,
            f"{function} is held back by its concurrency: raise it, or the account's",
            periods=3,
        )


def _machines(watched: Watched) -> Iterator[_Alarm]:
    for name, arn in zip(("import", "send", "stream", "work"), watched.machines, strict=True):
        failed = _metric("AWS/States", "ExecutionsFailed", {"StateMachineArn": arn})
        yield _Alarm(f"Machine-{name}", failed, 0, f"a run of the state machine {name} failed: its last step says why")


def _api(watched: Watched, limits: Limits) -> Iterator[_Alarm]:
    dimensions = {"ApiName": watched.api, "Stage": watched.api_stage}
    rate = _rate(_metric("AWS/ApiGateway", "5XXError", dimensions), _metric("AWS/ApiGateway", "Count", dimensions))
    yield _Alarm("ApiFailing", rate, limits.api_error_rate, "the API answers with errors of ours", periods=2)


def _mail(watched: Watched, limits: Limits) -> Iterator[_Alarm]:
    reputation = {"BounceRate": limits.bounce_rate, "ComplaintRate": limits.complaint_rate}
    for name, limit in reputation.items():
        metric = _metric("AWS/SES", f"Reputation.{name}", {}, statistic="Average", period=Duration.hours(1))
        means = f"SES counts a {name} at which it reviews the account: pause what causes it before SES stops all mail"
        yield _Alarm(name, metric, limit, means)
    stuck = _metric(NAMESPACE, "StuckCampaigns", {"service": "maintenance", "stage": watched.stage}, statistic="Maximum")
    yield _Alarm("StuckCampaigns", stuck, limits.stuck_campaigns, "a campaign is sending and does not move", periods=3)


def error_rate(function: str) -> cloudwatch.IMetric:
    """A function's errors as a share of its calls."""
    dimensions = {"FunctionName": function}
    return _rate(_metric("AWS/Lambda", "Errors", dimensions), _metric("AWS/Lambda", "Invocations", dimensions))


def _rate(failed: cloudwatch.IMetric, all_: cloudwatch.IMetric) -> cloudwatch.IMetric:
    return cloudwatch.MathExpression(
        expression=f"IF(calls >= {_FEW}, failed / calls, IF(failed >= {_FEW // 4}, 1, 0))",
        using_metrics={"failed": failed, "calls": all_},
        period=_FIVE_MINUTES,
        label="share of calls that fail",
    )


def _metric(
    namespace: str, name: str, dimensions: Mapping[str, str], *, statistic: str = "Sum", period: Duration = _FIVE_MINUTES
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace, metric_name=name, dimensions_map=dict(dimensions) or None, statistic=statistic, period=period
    )


def _made(scope: Construct, watched: Watched, alarm: _Alarm, topic: sns.ITopic) -> cloudwatch.Alarm:
    made = cloudwatch.Alarm(
        scope,
        alarm.id,
        alarm_name=f"{watched.prefix}-{alarm.id}",
        alarm_description=f"{alarm.means}. See {_HANDBOOK}.",
        metric=alarm.metric,
        threshold=alarm.above,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        evaluation_periods=alarm.periods,
        datapoints_to_alarm=alarm.periods,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    made.add_alarm_action(actions.SnsAction(topic))
    made.add_ok_action(actions.SnsAction(topic))
    return made
