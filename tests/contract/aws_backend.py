"""The AWS backend: a fresh account in the emulator for each test, and real time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

from postroom.clock import SystemClock
from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws._dynamo import Table
from postroom.platform.aws._schema import make_bucket, make_table
from postroom.platform.aws.feed import DynamoFeed
from postroom.platform.aws.identity import CognitoIdentity
from postroom.platform.aws.journal import NoJournals
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.aws.objects import S3Objects
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.aws.rates import DynamoRates
from postroom.platform.aws.secrets import KmsSecrets
from postroom.platform.aws.tables import DynamoTables
from postroom.platform.aws.timers import SchedulerTimers
from postroom.platform.aws.transfers import S3Transfers
from postroom.platform.ports.identity import Invitation
from tests.aws.dynamodb_local import dynamodb_local
from tests.aws.emulator import emulator

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TABLE = "postroom"
BUCKET = "postroom-objects"
GROUP = "postroom"


class AwsBackend:
    """See `tests.contract.backend.Backend`. Each client has connections and threads of its own."""

    def __init__(self, account: AwsAccount, closers: ExitStack) -> None:
        self.account = account
        self.clock = SystemClock()
        self._closers = closers
        self._made: set[str] = set()
        self._pool = ""
        self.kms_keys: list[str] = []
        """The newest first."""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def fire(self) -> None:
        """The emulator looks for schedules that are due every ten seconds."""

    def table(self) -> Table:
        client = self._closers.enter_context(closing(self.account.dynamodb()))
        if TABLE not in self._made:
            make_table(client, TABLE)
            self._made.add(TABLE)
        return self._closers.enter_context(closing(Table(client, TABLE, self.clock)))

    def tables(self) -> DynamoTables:
        return DynamoTables(self.table(), self.clock)

    def messages(self) -> DynamoMessages:
        return DynamoMessages(self.table())

    def objects(self) -> S3Objects:
        client, bucket = self._bucket()
        return self._closers.enter_context(closing(S3Objects(client, bucket, self.clock)))

    def transfers(self) -> S3Transfers:
        return S3Transfers(*self._bucket(), self.clock)

    def _bucket(self) -> tuple[S3Client, str]:
        client = self._closers.enter_context(closing(self.account.s3()))
        name = f"{BUCKET}-{self.account.access_key}"
        if BUCKET not in self._made:
            make_bucket(client, name)
            self._made.add(BUCKET)
        return client, name

    def queues(self) -> SqsQueues:
        client = self._closers.enter_context(closing(self.account.sqs()))
        return SqsQueues(client, f"arn:aws:sqs:{self.account.region}:{self.account.access_key}:test-", self.clock, dead_wait_s=0)

    def timers(self) -> SchedulerTimers:
        client = self._closers.enter_context(closing(self.account.scheduler()))
        if GROUP not in self._made:
            client.create_schedule_group(Name=GROUP)
            self._made.add(GROUP)
        role = f"arn:aws:iam::{self.account.access_key}:role/scheduler"
        return SchedulerTimers(client, self.queues(), self.clock, group=GROUP, role=role)

    def workflows(self) -> NoReturn:
        pytest.fail("the suite of workflows is not for this backend yet")

    def rates(self) -> DynamoRates:
        return DynamoRates(self.table(), self.clock)

    def journals(self) -> NoJournals:
        return NoJournals(self.clock)

    def secrets(self) -> KmsSecrets:
        client = self._closers.enter_context(closing(self.account.kms()))
        if not self.kms_keys:
            self.kms_keys.append(client.create_key()["KeyMetadata"]["Arn"])
        return KmsSecrets(client, self.kms_keys, self.clock)

    def identity(self) -> CognitoIdentity:
        client = self._closers.enter_context(closing(self.account.cognito()))
        if not self._pool:
            made = client.create_user_pool(
                PoolName="people", UsernameAttributes=["email"], UsernameConfiguration={"CaseSensitive": False}
            )
            self._pool = made["UserPool"]["Id"]
        return CognitoIdentity(client, self._pool, issuer=f"https://cognito-idp.us-east-1.amazonaws.com/{self._pool}")

    def set_password(self, invited: Invitation) -> None:
        with closing(self.account.cognito()) as client:
            client.admin_set_user_password(
                UserPoolId=self._pool, Username=invited.account.subject, Password="Seven-quiet-otters-7", Permanent=True
            )

    def feed(self) -> DynamoFeed:
        streams = self._closers.enter_context(closing(self.account.streams()))
        return DynamoFeed(self.table()._client, streams, TABLE)


@contextmanager
def open_backend(request: pytest.FixtureRequest) -> Iterator[AwsBackend]:
    """A backend in a fresh account."""
    account = emulator(request.config).account()
    with ExitStack() as closers:
        yield AwsBackend(account, closers)


@contextmanager
def open_dynamodb_backend(request: pytest.FixtureRequest) -> Iterator[AwsBackend]:
    """A backend on DynamoDB Local, Amazon's own emulator: tables, messages and their feed, and no other service."""
    account = dynamodb_local(request.config).account()
    with ExitStack() as closers:
        yield AwsBackend(account, closers)
