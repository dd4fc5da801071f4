"""What is kept of what people and machines do in the account: a stack of its own, since not every place has these services."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.lambdas import retention
from infra.operations.trail import add_trail
from infra.stage import Stage


class Records(cdk.Stack):
    """CloudTrail, and who spoke to whom in the network of OpenSearch."""

    def __init__(
        self, scope: Construct, id_: str, stage: Stage, *, logs: s3.IBucket, network: ec2.IVpc | None, **settings: Any
    ) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-records", **settings)
        add_trail(self, stage.prefix, logs=logs, removal=stage.removal)
        if network is not None:
            self._listen_in(stage, network)

    def _listen_in(self, stage: Stage, network: ec2.IVpc) -> None:
        """Who spoke to whom in the network of OpenSearch."""
        kept = logs.LogGroup(
            self,
            "Flows",
            log_group_name=f"/{stage.prefix}/network",
            retention=retention(stage.log_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        ec2.FlowLog(
            self,
            "FlowLog",
            resource_type=ec2.FlowLogResourceType.from_vpc(network),
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(kept),
        )
