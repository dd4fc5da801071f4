"""One page that answers from top to bottom: is mail leaving, does what comes back arrive, does the API answer, what waits."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.operations.watch import Watched

_MINUTE = Duration.minutes(1)
_WIDE = 24
_HALF = 12


def add_dashboard(scope: Construct, watched: Watched, alarms: Sequence[cloudwatch.IAlarm]) -> cloudwatch.Dashboard:
    """The stage's."""
    api = {"ApiName": watched.api, "Stage": watched.api_stage}
    rows: list[list[cloudwatch.IWidget]] = [
        [cloudwatch.AlarmStatusWidget(title="What rings", alarms=list(alarms), width=_WIDE, height=4)],
        [
            _graph("Mail that leaves", *(_sum("AWS/SES", name, {}) for name in ("Send", "Delivery", "Bounce", "Complaint"))),
            _graph("Functions that send", *_of(watched, "sender", "Duration", "ConcurrentExecutions", "Errors")),
        ],
        [
            _graph(
                "What waits, seconds",
                *(_max("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": q}) for q in watched.queues),
            ),
            _graph(
                "Dead letters",
                *(_max("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": q}) for q in watched.dead_queues),
            ),
        ],
        [
            _graph("Calls of the API", *(_sum("AWS/ApiGateway", name, api) for name in ("Count", "4XXError", "5XXError"))),
            _graph("How long they take, ms", _percentile("p50", api), _percentile("p99", api)),
        ],
        [
            _graph(
                "The table's units",
                _sum("AWS/DynamoDB", "ConsumedWriteCapacityUnits", {"TableName": watched.table}),
                _sum("AWS/DynamoDB", "ConsumedReadCapacityUnits", {"TableName": watched.table}),
                _sum("AWS/DynamoDB", "ThrottledRequests", {"TableName": watched.table}),
            ),
            _graph("Functions that fail", *(_sum("AWS/Lambda", "Errors", {"FunctionName": f}) for f in watched.functions)),
        ],
    ]
    return cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=watched.prefix, widgets=rows)


def _of(watched: Watched, function: str, *names: str) -> list[cloudwatch.IMetric]:
    dimensions = {"FunctionName": f"{watched.prefix}-{function}"}
    return [_max("AWS/Lambda", name, dimensions) for name in names]


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=_HALF, height=6, period=_MINUTE)


def _sum(namespace: str, name: str, dimensions: dict[str, str]) -> cloudwatch.IMetric:
    return cloudwatch.Metric(
        namespace=namespace, metric_name=name, dimensions_map=dimensions or None, statistic="Sum", period=_MINUTE
    )


def _max(namespace: str, name: str, dimensions: dict[str, str]) -> cloudwatch.IMetric:
    return cloudwatch.Metric(
        namespace=namespace, metric_name=name, dimensions_map=dimensions, statistic="Maximum", period=_MINUTE
    )


def _percentile(which: str, api: dict[str, str]) -> cloudwatch.IMetric:
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway", metric_name="Latency", dimensions_map=api, statistic=which, label=which, period=_MINUTE
    )
