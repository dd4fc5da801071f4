"""What watches over a stage, in one stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.functions import ALL
from infra.names import MACHINES, QUEUES, Names
from infra.operations.alarms import add_alarms
from infra.operations.alerts import add_alerts
from infra.operations.console import Console
from infra.operations.dashboard import add_dashboard
from infra.operations.watch import Limits, Watched
from infra.stage import Stage


class Operations(cdk.Stack):
    """See the package's text."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        stage: Stage,
        *,
        key: kms.IKey,
        logs: s3.IBucket,
        aliases: Mapping[str, lambda_.Alias],
        api_url: str,
        **settings: Any,
    ) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-operations", **settings)
        topic = add_alerts(self, stage.prefix, key=key, email=stage.alert_email or None)
        if stage.pagerduty:
            topic.add_subscription(subscriptions.LambdaSubscription(aliases["alarms"]))
        watched = self._watched(stage)
        alarms = add_alarms(self, watched, Limits(cost_usd=stage.cost_usd), topic)
        add_dashboard(self, watched, alarms)
        console = Console(self, "Console", prefix=stage.prefix, talks_to=api_url, logs=logs, removal=stage.removal)
        cdk.CfnOutput(self, "ConsoleUrl", value=f"https://{console.distribution.distribution_domain_name}")
        cdk.CfnOutput(self, "ConsoleBucket", value=console.bucket.bucket_name)

    def _watched(self, stage: Stage) -> Watched:
        names = Names(stage)
        return Watched(
            prefix=stage.prefix,
            table=names.table,
            functions=[names.function(each.name) for each in ALL],
            queues=[names.queue(name) for name in QUEUES],
            dead_queues=[names.dead_queue(name) for name in (*QUEUES, "functions", "stream")],
            machines=[names.machine_arn(name) for name in MACHINES],
            api=stage.prefix,
            api_stage=stage.stage,
        )
