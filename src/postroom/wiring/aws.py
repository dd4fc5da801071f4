"""The AWS home, opened: every adapter over one stack, which `postroom deploy` made and the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from postroom.clock import SystemClock
from postroom.errors import Invalid, Unsupported
from postroom.platform.aws._clients import Account
from postroom.platform.aws._dynamo import Table
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.aws.objects import S3Objects
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.aws.tables import DynamoTables
from postroom.platform.aws.transfers import S3Transfers
from postroom.settings import Settings
from postroom.wiring.stores import Stores


@contextmanager
def open_aws(settings: Settings) -> Iterator[Stores]:
    """Nothing is made: the stack is there. Clients are opened when they are first used. `Invalid`: a setting is missing."""
    clock, account = SystemClock(), Account()
    with ExitStack() as stack:
        dynamodb, s3, sqs = account.dynamodb(), account.s3(), account.sqs()
        for client in (dynamodb, s3, sqs):
            stack.callback(client.close)
        table = Table(dynamodb, _set(settings, "aws_table"), clock)
        stack.callback(table.close)
        bucket = _set(settings, "aws_bucket")
        objects = S3Objects(s3, bucket, clock)
        stack.callback(objects.close)
        yield Stores(
            clock=clock,
            secrets=_later("secrets"),
            tables=DynamoTables(table, clock),
            objects=objects,
            messages=DynamoMessages(table),
            queues=SqsQueues(sqs, _set(settings, "aws_queues").rpartition(":")[2], clock),
            timers=_later("timers"),
            workflows=_later("workflows"),
            feed=_later("feed"),
            journals=_later("journals"),
            rates=_later("rates"),
            transfers=S3Transfers(s3, bucket, clock),
        )


def _set(settings: Settings, name: str) -> str:
    value: str | None = getattr(settings, name)
    if value is None:
        raise Invalid(f"POSTROOM_{name.upper()} is not set: with POSTROOM_PLATFORM=aws it says where the stack is")
    return value


def _later(port: str) -> Any:
    """Until the port has its home here."""

    class Later:
        def __getattr__(self, name: str) -> Any:
            raise Unsupported(f"{port} have no home on AWS yet")

    return Later()
