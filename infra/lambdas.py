"""A function, made: a role of its own with what its row says, a log that ends, traces, and the alias that everything calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy, Size
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.functions import Function
from infra.names import LIVE, Names
from infra.permissions import Grounds
from infra.rules import allow_wildcards
from infra.stage import Stage

_EMPTY = Path(__file__).with_name("nothing")
_INTERFACES = (
    "CreateNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "DeleteNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
)


class Lambdas:
    """Makes functions of one stack."""

    def __init__(self, scope: Construct, stage: Stage, grounds: Grounds, environment: Mapping[str, str]) -> None:
        """`environment`: the settings, the same for all of them."""
        self._scope = scope
        self._stage = stage
        self._names = Names(stage)
        self._grounds = grounds
        self._environment = environment
        self._code = lambda_.Code.from_asset(stage.bundle or str(_EMPTY))
        self.aliases: dict[str, lambda_.Alias] = {}

    def make(
        self,
        function: Function,
        *,
        more: Mapping[str, str] | None = None,
        network: ec2.IVpc | None = None,
        group: ec2.ISecurityGroup | None = None,
        dead: sqs.IQueue | None = None,
    ) -> lambda_.Alias:
        """`more`: further environment variables. `dead`: the queue for failed asynchronous calls."""
        log = self._log(function)
        made = lambda_.Function(
            self._scope,
            f"Function-{function.name}",
            function_name=self._names.function(function.name),
            description=f"Postroom: {function.name}",
            runtime=lambda_.Runtime(f"python{self._stage.python}", lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.X86_64,
            handler=function.path,
            code=self._code,
            role=self._role(function, in_network=network is not None, loses=dead is not None).without_policy_updates(),
            memory_size=self._stage.step_memory if function.step else self._stage.api_memory,
            ephemeral_storage_size=Size.mebibytes(function.storage_mb),
            timeout=Duration.seconds(function.timeout_s),
            reserved_concurrent_executions=function.at_once,
            tracing=lambda_.Tracing.ACTIVE,
            log_group=log,
            environment={**self._environment, **(more or {})},
            recursive_loop=lambda_.RecursiveLoop.ALLOW,  # a function that wakes itself by a queue means to
            vpc=network,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED) if network else None,
            security_groups=[group] if group else None,
            dead_letter_queue=dead,
        )
        alias = lambda_.Alias(self._scope, f"Live-{function.name}", alias_name=LIVE, version=made.current_version)
        self.aliases[function.name] = alias
        return alias

    def _log(self, function: Function) -> logs.LogGroup:
        return logs.LogGroup(
            self._scope,
            f"Log-{function.name}",
            log_group_name=log_name(self._names, function),
            retention=retention(self._stage.log_days),
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _role(self, function: Function, *, in_network: bool, loses: bool) -> iam.Role:
        statements = [
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[self._names.arn("logs", f"log-group:{log_name(self._names, function)}:*")],
            ),
            iam.PolicyStatement(actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"], resources=["*"]),
        ]
        if in_network:
            statements += self._interfaces(function)
        if loses:
            statements.append(
                iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[self._names.dead_queue_arn("functions")])
            )
        for permission in function.permissions:
            statements += permission.statements(self._grounds)
        role = iam.Role(
            self._scope,
            f"Role-{function.name}",
            role_name=f"{self._names.function(function.name)}",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"postroom": iam.PolicyDocument(statements=statements)},
        )
        allow_wildcards(role, (resource for statement in statements for resource in statement.resources))
        return role

    def _interfaces(self, function: Function) -> list[iam.PolicyStatement]:
        """Lambda joins the network as the function's role, before the function runs; the function itself may not."""
        actions = [f"ec2:{action}" for action in _INTERFACES]
        own = self._names.arn("lambda", f"function:{self._names.function(function.name)}")
        itself = {"ArnEquals": {"lambda:SourceFunctionArn": own}}
        return [
            iam.PolicyStatement(actions=actions, resources=["*"]),
            iam.PolicyStatement(effect=iam.Effect.DENY, actions=actions, resources=["*"], conditions=itself),
        ]


def log_name(names: Names, function: Function) -> str:
    """Of the function's log group."""
    return f"/aws/lambda/{names.function(function.name)}"


def retention(days: int) -> logs.RetentionDays:
    """The least that AWS knows and that is enough."""
    known = {
        1: "ONE_DAY",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        90: "THREE_MONTHS",
        180: "SIX_MONTHS",
        365: "ONE_YEAR",
    }
    enough = [name for least, name in known.items() if least >= days] or ["TEN_YEARS"]
    return logs.RetentionDays[enough[0]]
