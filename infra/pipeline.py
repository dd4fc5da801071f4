"""The background functions (after "send", and for events that come back), the state machines, and the triggers of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.dead_letters import dead_letters
from infra.functions import BACKGROUND, STEPS
from infra.lambdas import Lambdas, retention
from infra.names import MACHINES, Names
from infra.operations.rollout import add_rollout
from infra.permissions import Grounds
from infra.rules import allow_wildcards
from infra.stage import Stage

_MACHINES = Path(__file__).with_name("machines")
_STEPS_OF = {
    "import": ("import-plan", "import-range", "import-reduce", "import-finish", "import-failed"),
    "send": ("send-round", "sender"),
    "stream": ("stream-sender",),
    "work": ("work",),
}
_MESSAGES = {"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "M#"}]}}}}
"""The filter of the table's stream: changes of messages only."""
_AT_ONCE = {"scheduler": 5, "feedback": 10, "callbacks": 5, "notices": 20}
_GATHERED = {"feedback": 100, "notices": 100}
"""Items in one call, of queues that bring one a message: ten at a time, or one, would cost as much as sending."""
_GATHERED_S = 2
"""How long they are waited for."""
_FOLLOWED_S = {"callbacks-stream": 1, "indexer": 5}
"""The same for the table's stream: who is told waits, who searches hardly does."""


class Pipeline(cdk.Stack):
    """The background functions, the state machines, and their triggers."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        stage: Stage,
        *,
        grounds: Grounds,
        environment: Mapping[str, str],
        table: dynamodb.ITable | None,
        queues: Mapping[str, sqs.IQueue],
        network: ec2.IVpc | None,
        callers: ec2.ISecurityGroup | None,
        **settings: Any,
    ) -> None:
        """`table`: None, where the stage stands on a restored one, whose stream has to be joined by hand. `network` and
        `callers`: of OpenSearch."""
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-pipeline", **settings)
        self._stage, self._names = stage, Names(stage)
        self._dead = self._lost("functions")
        self._schedules()
        self.lambdas = Lambdas(self, stage, grounds, environment)
        for function in (*STEPS, *BACKGROUND):
            if function.name == "indexer" and network is None:
                continue
            self.lambdas.make(
                function,
                network=network if function.in_network else None,
                group=callers if function.in_network else None,
                dead=self._dead if function.name in {"maintenance", "alarms"} else None,
            )
        self._wake_by_queues(queues)
        self._wake_by_clock()
        if table is not None:
            self._follow(table)
        if stage.careful:
            add_rollout(self, f"{stage.prefix}-pipeline", self.lambdas.aliases)
        self.machines = {name: self._machine(name, grounds.key_arn) for name in MACHINES}

    def _lost(self, name: str) -> sqs.Queue:
        return dead_letters(self, f"Lost-{name}", self._names, name)

    def _schedules(self) -> None:
        """One-time schedules of campaigns: each puts a note on the scheduler's queue, and can do nothing else."""
        scheduler.CfnScheduleGroup(self, "Schedules", name=self._names.schedules)
        ours = {"StringEquals": {"aws:SourceAccount": self.account}}
        put = iam.PolicyStatement(
            actions=["sqs:SendMessage"],
            resources=[self._names.queue_arn("scheduler"), f"{self._names.queues_arn}d-scheduler"],
        )
        iam.Role(
            self,
            "ScheduleRole",
            role_name=f"{self._stage.prefix}-schedules",
            assumed_by=iam.PrincipalWithConditions(iam.ServicePrincipal("scheduler.amazonaws.com"), ours),
            inline_policies={"postroom": iam.PolicyDocument(statements=[put])},
        )

    def _wake_by_queues(self, queues: Mapping[str, sqs.IQueue]) -> None:
        woken = {"scheduler": "scheduler", "feedback": "events", "notices": "events", "callbacks": "callbacks-sender"}
        for queue, function in woken.items():
            lambda_.CfnEventSourceMapping(
                self,
                f"From-{queue}",
                function_name=self.lambdas.aliases[function].function_arn,
                event_source_arn=queues[queue].queue_arn,
                batch_size=_GATHERED.get(queue, 10),
                maximum_batching_window_in_seconds=_GATHERED_S if queue in _GATHERED else 0,
                function_response_types=["ReportBatchItemFailures"],
                scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(maximum_concurrency=_AT_ONCE[queue]),
            )

    def _wake_by_clock(self) -> None:
        """What would wait for ever for a note that was lost, and what is due by the clock."""
        rule = events.Rule(
            self,
            "EachMinute",
            rule_name=f"{self._stage.prefix}-each-minute",
            schedule=events.Schedule.rate(Duration.minutes(1)),
        )
        for name in ("maintenance", "callbacks-sender"):
            rule.add_target(targets.LambdaFunction(self.lambdas.aliases[name], retry_attempts=0))

    def _follow(self, table: dynamodb.ITable) -> None:
        lost = sources.SqsDlq(self._lost("stream"))
        for name in ("callbacks-stream", "indexer"):
            if name in self.lambdas.aliases:
                self.lambdas.aliases[name].add_event_source(
                    sources.DynamoEventSource(
                        table,
                        starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                        batch_size=100,
                        max_batching_window=Duration.seconds(_FOLLOWED_S[name]),
                        parallelization_factor=2,
                        # Halves would make other requests of callbacks that tell many events in one.
                        bisect_batch_on_error=name == "indexer",
                        max_record_age=Duration.hours(23),  # what no store takes until then; no record fails by itself
                        on_failure=lost,
                        report_batch_item_failures=True,
                        filters=[_MESSAGES],
                    )
                )

    def _machine(self, name: str, key_arn: str) -> sfn.StateMachine:
        log = logs.LogGroup(
            self,
            f"MachineLog-{name}",
            log_group_name=f"/aws/vendedlogs/states/{self._stage.prefix}-{name}",
            retention=retention(self._stage.log_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        steps = _STEPS_OF[name]
        substitutions = {_camel(step): self._names.function_arn(step) for step in steps}
        machine = sfn.StateMachine(
            self,
            f"Machine-{name}",
            state_machine_name=f"{self._stage.prefix}-{name}",
            definition_body=sfn.DefinitionBody.from_string(self._definition(name)),
            definition_substitutions={**substitutions, "Bucket": self._names.bucket},
            role=self._machine_role(name, key_arn),
            tracing_enabled=True,
            logs=sfn.LogOptions(destination=log, level=sfn.LogLevel.ERROR, include_execution_data=False),
        )
        for step in steps:
            machine.node.add_dependency(self.lambdas.aliases[step])
        return machine

    def _definition(self, name: str) -> str:
        """As its file says; how many work side by side, as the stage's sizes say: a placeholder stands for texts alone."""
        told = json.loads((_MACHINES / f"{name}.asl.json").read_text("utf-8"))
        sizes = {("send", "Send"): self._stage.senders, ("import", "Groups"): self._stage.groups}
        for (machine, state), size in sizes.items():
            if machine == name:
                told["States"][state]["MaxConcurrency"] = size
        return json.dumps(told)

    def _machine_role(self, name: str, key_arn: str) -> iam.Role:
        names = self._names
        invoke = iam.PolicyStatement(
            actions=["lambda:InvokeFunction"], resources=[names.function_arn(step) for step in _STEPS_OF[name]]
        )
        # A distributed map runs its items as executions of its own machine, and reads their list from the bucket.
        lists = iam.PolicyStatement(actions=["s3:GetObject"], resources=[f"{names.bucket_arn}/*/campaigns/*"])
        opened = iam.PolicyStatement(
            actions=["kms:Decrypt"],
            resources=[key_arn],
            conditions={"StringLike": {"kms:EncryptionContext:aws:s3:arn": f"{names.bucket_arn}*"}},
        )
        own = iam.PolicyStatement(actions=["states:StartExecution"], resources=[names.machine_arn(name)])
        runs = iam.PolicyStatement(
            actions=["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"],
            resources=[f"{names.executions_arn(name)}"],
        )
        role = iam.Role(
            self,
            f"MachineRole-{name}",
            role_name=f"{self._stage.prefix}-machine-{name}",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            inline_policies={"postroom": iam.PolicyDocument(statements=[invoke, lists, opened, own, runs])},
        )
        allow_wildcards(role, [*lists.resources, *runs.resources, "*"])
        return role


def _camel(name: str) -> str:
    return "".join(word.title() for word in name.split("-"))
