"""What a function may do, in words of Postroom; each becomes statements of that function's role alone.

Rows of the table are told apart by how their partition keys begin (`dynamodb:LeadingKeys`): `T#` documents, `C#` records of
campaigns, `M#` messages and their events, `R#` rates. `ForAllValues` is true of a call that names no key at all, so no action
that reads a whole table is ever allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from aws_cdk import aws_iam as iam

from infra.names import Names
from infra.partitions import keys_of

_READS = ("GetItem", "BatchGetItem", "Query", "ConditionCheckItem")
"""A transaction needs the permission of each of its parts; there is none of its own. A check is one that writes nothing."""
_WRITES = ("PutItem", "DeleteItem")
_LEDGER_WRITES = ("UpdateItem", "BatchWriteItem")
_DOCUMENT = "T#"
CAMPAIGN_RECORDS = ("C#*",)
MESSAGES = ("M#*",)
RATES = ("R#*",)
_TABLE_KEY = ("kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey")
"""What DynamoDB may do with the table's key on behalf of a function that writes."""


def documents(*names: str) -> tuple[str, ...]:
    """Keys of documents in these partitions (infra.partitions)."""
    return tuple(keys_of(names))


@dataclass(frozen=True, slots=True)
class Grounds:
    """What statements are about."""

    names: Names
    key_arn: str
    user_pool_arn: str


class Permission(Protocol):
    """One thing that a function may do."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]: ...

    def __str__(self) -> str:
        """For the page that lists them."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the table: those that it sees, and those that it also writes. One of these a function: a call may name rows of
    several partitions, and one statement has to allow them all."""

    sees: Sequence[str]
    keeps: Sequence[str] = ()

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        writes = (*_WRITES, *(_LEDGER_WRITES if any(not key.startswith(_DOCUMENT) for key in self.keeps) else ()))
        yield self._statement(grounds, _READS, (*self.sees, *self.keeps))
        if self.keeps:
            yield self._statement(grounds, writes, self.keeps)
        yield _through(grounds, "dynamodb", *(_TABLE_KEY if self.keeps else ()))

    def _statement(self, grounds: Grounds, verbs: Sequence[str], keys: Sequence[str]) -> iam.PolicyStatement:
        condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": sorted(set(keys))}}
        actions = [f"dynamodb:{verb}" for verb in verbs]
        return iam.PolicyStatement(actions=actions, resources=[grounds.names.table_arn], conditions=condition)

    def __str__(self) -> str:
        said = [f"{verb} rows {_listed(keys)}" for verb, keys in (("read", self.sees), ("read and write", self.keeps)) if keys]
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class Files:
    """Objects below these paths; `*` stands for a tenant or whatever else is there."""

    paths: Sequence[str]
    write: bool = True
    purge: bool = False
    """Delete versions for good."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        bucket = grounds.names.bucket_arn
        actions = ["s3:GetObject", "s3:GetObjectVersion"]
        actions += ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] if self.write else []
        actions += ["s3:DeleteObjectVersion"] if self.purge else []
        yield iam.PolicyStatement(actions=actions, resources=[f"{bucket}/{path}" for path in self.paths])
        # A HEAD of what is not there says 404 only to those who may list, else 403; it names no prefix, a list does.
        listed = {"StringLikeIfExists": {"s3:prefix": list(self.paths)}}
        yield iam.PolicyStatement(actions=["s3:ListBucket", "s3:ListBucketVersions"], resources=[bucket], conditions=listed)
        yield iam.PolicyStatement(
            actions=["kms:Decrypt", "kms:GenerateDataKey"],
            resources=[grounds.key_arn],
            conditions={"StringLike": {"kms:EncryptionContext:aws:s3:arn": f"{bucket}*"}},
        )

    def __str__(self) -> str:
        verb = "read, write and purge" if self.purge else "read and write" if self.write else "read"
        return f"{verb} objects {_listed(self.paths)}"


@dataclass(frozen=True, slots=True)
class Sends:
    """Puts items on queues."""

    queues: Sequence[str]

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        arns = [grounds.names.queue_arn(queue) for queue in self.queues]
        dead = [f"{grounds.names.queues_arn}d-{queue}" for queue in self.queues]
        yield iam.PolicyStatement(actions=["sqs:SendMessage"], resources=arns)
        yield iam.PolicyStatement(actions=["sqs:GetQueueUrl"], resources=[*arns, *dead])

    def __str__(self) -> str:
        return f"put on {_listed(self.queues)}"


@dataclass(frozen=True, slots=True)
class Takes:
    """Is called for the items of queues, and watches how much waits."""

    queues: Sequence[str]

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        yield iam.PolicyStatement(actions=actions, resources=[grounds.names.queue_arn(queue) for queue in self.queues])

    def __str__(self) -> str:
        return f"take from {_listed(self.queues)}"


@dataclass(frozen=True, slots=True)
class Follows:
    """Is called for the table's stream."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        stream = f"{grounds.names.table_arn}/stream/*"
        actions = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
        yield iam.PolicyStatement(actions=actions, resources=[stream])
        yield iam.PolicyStatement(actions=["dynamodb:ListStreams"], resources=["*"])  # knows no resource
        yield iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[grounds.names.dead_queue_arn("stream")])
        yield _through(grounds, "dynamodb")

    def __str__(self) -> str:
        return "follow the table's stream"


@dataclass(frozen=True, slots=True)
class Runs:
    """Starts state machines, and stops what they run."""

    machines: Sequence[str]

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        names = grounds.names
        yield iam.PolicyStatement(
            actions=["states:StartExecution"], resources=[names.machine_arn(machine) for machine in self.machines]
        )
        yield iam.PolicyStatement(
            actions=["states:DescribeExecution", "states:StopExecution"],
            resources=[names.executions_arn(machine) for machine in self.machines],
        )

    def __str__(self) -> str:
        return f"run {_listed(self.machines)}"


@dataclass(frozen=True, slots=True)
class Seals:
    """Opens and seals secrets of these classes of purposes (platform.aws.secrets)."""

    classes: Sequence[str]

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        yield iam.PolicyStatement(
            actions=["kms:GenerateDataKey", "kms:Decrypt"],
            resources=[grounds.key_arn],
            # Nothing of ours is encrypted without a context: what S3 and DynamoDB encrypted has others, and stays closed.
            conditions={
                "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["purpose"]},
                "StringLikeIfExists": {"kms:EncryptionContext:purpose": list(self.classes)},
            },
        )

    def __str__(self) -> str:
        return f"seal and open secrets of {_listed(self.classes)}"


@dataclass(frozen=True, slots=True)
class Mails:
    """Sends mail, through the stage's configuration set alone."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        names = grounds.names
        yield iam.PolicyStatement(
            actions=["ses:SendEmail", "ses:SendRawEmail"], resources=[names.identities_arn, names.configuration_set_arn]
        )

    def __str__(self) -> str:
        return "send mail"


@dataclass(frozen=True, slots=True)
class LooksAtSes:
    """Asks what the account may send."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        yield iam.PolicyStatement(actions=["ses:GetAccount"], resources=["*"])  # knows no resource

    def __str__(self) -> str:
        return "ask SES for the account's limits"


@dataclass(frozen=True, slots=True)
class Schedules:
    """Sets and cancels one-time schedules, which put a note on the scheduler's queue."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        names = grounds.names
        actions = [f"scheduler:{verb}Schedule" for verb in ("Create", "Update", "Get", "Delete")]
        yield iam.PolicyStatement(actions=actions, resources=[names.schedules_arn])
        yield iam.PolicyStatement(
            actions=["iam:PassRole"],
            resources=[names.schedule_role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
        )

    def __str__(self) -> str:
        return "set and cancel schedules"


@dataclass(frozen=True, slots=True)
class Reads:
    """One secret of AWS Secrets Manager."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        arn = grounds.names.arn("secretsmanager", f"secret:{grounds.names.pagerduty}-*")
        yield iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[arn])

    def __str__(self) -> str:
        return "read PagerDuty's routing key"


@dataclass(frozen=True, slots=True)
class Indexes:
    """Writes to OpenSearch."""

    def statements(self, grounds: Grounds) -> Iterator[iam.PolicyStatement]:
        arn = grounds.names.arn("es", f"domain/{grounds.names.search}/*")
        yield iam.PolicyStatement(actions=["es:ESHttpPost", "es:ESHttpPut", "es:ESHttpHead", "es:ESHttpGet"], resources=[arn])

    def __str__(self) -> str:
        return "write to OpenSearch"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in dict.fromkeys(words))


def _through(grounds: Grounds, service: str, *more: str) -> iam.PolicyStatement:
    """The key, in a service's hands alone."""
    via = {"StringLike": {"kms:ViaService": f"{service}.*.amazonaws.com"}}
    return iam.PolicyStatement(actions=["kms:Decrypt", "kms:DescribeKey", *more], resources=[grounds.key_arn], conditions=via)
