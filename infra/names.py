"""What everything is called. Stacks find each other's things by these names: no export holds a change of another stack up."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Aws

from infra.stage import Stage

QUEUES = ("scheduler", "feedback", "callbacks", "notices")
MACHINES = ("import", "send", "stream", "work")
LIVE = "live"
"""The alias that everything calls: a roll-out moves it."""


@dataclass(frozen=True, slots=True)
class Names:
    """A stage's."""

    stage: Stage

    @property
    def prefix(self) -> str:
        return self.stage.prefix

    @property
    def table(self) -> str:
        return self.stage.table or self.prefix

    @property
    def table_arn(self) -> str:
        return self.arn("dynamodb", f"table/{self.table}")

    @property
    def bucket(self) -> str:
        return f"{self.prefix}-objects-{Aws.ACCOUNT_ID}-{Aws.REGION}"

    @property
    def bucket_arn(self) -> str:
        return f"arn:{Aws.PARTITION}:s3:::{self.bucket}"

    @property
    def queues_arn(self) -> str:
        """What the ARNs of all queues begin with."""
        return self.arn("sqs", f"{self.prefix}-")

    def queue(self, name: str) -> str:
        return f"{self.prefix}-q-{name}"

    def dead_queue(self, name: str) -> str:
        return f"{self.prefix}-d-{name}"

    def queue_arn(self, name: str) -> str:
        return self.arn("sqs", self.queue(name))

    def dead_queue_arn(self, name: str) -> str:
        return self.arn("sqs", self.dead_queue(name))

    @property
    def machines_arn(self) -> str:
        """What the ARNs of all state machines begin with."""
        return self.arn("states", f"stateMachine:{self.prefix}-")

    def machine_arn(self, name: str) -> str:
        return f"{self.machines_arn}{name}"

    def executions_arn(self, name: str) -> str:
        return self.arn("states", f"execution:{self.prefix}-{name}:*")

    def function(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def function_arn(self, name: str) -> str:
        """Of the version that is live."""
        return self.arn("lambda", f"function:{self.function(name)}:{LIVE}")

    @property
    def schedules(self) -> str:
        return self.prefix

    @property
    def schedules_arn(self) -> str:
        return self.arn("scheduler", f"schedule/{self.schedules}/*")

    @property
    def schedule_role_arn(self) -> str:
        return f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role/{self.prefix}-schedules"

    @property
    def configuration_set_arn(self) -> str:
        return self.arn("ses", f"configuration-set/{self.prefix}")

    @property
    def identities_arn(self) -> str:
        return self.arn("ses", "identity/*")

    @property
    def search(self) -> str:
        """The domain."""
        return self.prefix

    @property
    def pagerduty(self) -> str:
        """The secret."""
        return f"{self.prefix}/pagerduty"

    def arn(self, service: str, rest: str) -> str:
        return f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{rest}"
