"""The firewall's stack: WAF is a service that not every place has, and nothing else may wait for it."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from infra.operations.firewall import add_firewall
from infra.stage import Stage


class Waf(cdk.Stack):
    """Before the API's stage."""

    def __init__(self, scope: Construct, id_: str, stage: Stage, *, api_id: str, **settings: Any) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-waf", **settings)
        where = f"arn:{cdk.Aws.PARTITION}:apigateway:{cdk.Aws.REGION}::/restapis/{api_id}/stages/{stage.stage}"
        add_firewall(self, stage.prefix, stage_arn=where)
