"""The AWS backend: every adapter over the stack that `postroom deploy` made and the settings name.

A function uses few adapters, and waits for all that it opens: a boto3 client costs 20 to 70 ms of CPU. So each adapter is opened,
and imported, when it is first used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from postroom.clock import SystemClock
from postroom.errors import Denied, Invalid, Unavailable, Unsupported
from postroom.events.alarms import PAGERDUTY
from postroom.platform.aws._clients import AwsAccount, secret_text
from postroom.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from postroom.platform.aws._dynamo import Table
    from postroom.platform.aws.feed import DynamoFeed
    from postroom.platform.aws.identity import CognitoIdentity
    from postroom.platform.aws.journal import NoJournals
    from postroom.platform.aws.messages import DynamoMessages
    from postroom.platform.aws.objects import S3Objects
    from postroom.platform.aws.queues import SqsQueues
    from postroom.platform.aws.rates import DynamoRates
    from postroom.platform.aws.search import SearchIndex
    from postroom.platform.aws.secrets import KmsSecrets
    from postroom.platform.aws.tables import DynamoTables
    from postroom.platform.aws.timers import SchedulerTimers
    from postroom.platform.aws.transfers import S3Transfers
    from postroom.platform.aws.workflows import StepWorkflows
    from postroom.platform.ports.feed import MessageChange
    from postroom.platform.web.client import WebResponse
    from postroom.wiring.embedded import Machine

_SUCCESS: Final = 2
_REFUSED: Final = frozenset({400, 401, 403, 404})


@contextmanager
def open_aws(settings: Settings) -> Iterator[AwsStores]:
    """Open the stores; creates nothing, since the stack exists."""
    with ExitStack() as stack:
        yield AwsStores(settings, stack)


class AwsStores:
    """`wiring.stores.Stores`. Each member raises `Invalid` when its setting is missing."""

    def __init__(self, settings: Settings, closing: ExitStack) -> None:
        """`closing`: closes what is opened."""
        self.clock = SystemClock()
        self.machine: Machine | None = None
        self._settings = settings
        self._closing = closing
        self._account = AwsAccount()

    def on_one_machine(self, what: str) -> Machine:
        """Raises `Unsupported`: there is none."""
        raise Unsupported(f"{what} is for an installation on one machine; this one is on AWS, where the stack does that")

    @cached_property
    def tables(self) -> DynamoTables:
        from postroom.platform.aws.tables import DynamoTables

        return DynamoTables(self._table, self.clock)

    @cached_property
    def messages(self) -> DynamoMessages:
        from postroom.platform.aws.messages import DynamoMessages

        return DynamoMessages(self._table)

    @cached_property
    def objects(self) -> S3Objects:
        from postroom.platform.aws.objects import S3Objects

        objects = S3Objects(self._s3, self._set("aws_bucket"), self.clock)
        self._closing.callback(objects.close)
        return objects

    @cached_property
    def transfers(self) -> S3Transfers:
        from postroom.platform.aws.transfers import S3Transfers

        return S3Transfers(self._s3, self._set("aws_bucket"), self.clock)

    @cached_property
    def queues(self) -> SqsQueues:
        from postroom.platform.aws.queues import SqsQueues

        client = self._account.sqs()
        self._closing.callback(client.close)
        return SqsQueues(client, self._set("aws_queues"), self.clock)

    @cached_property
    def secrets(self) -> KmsSecrets:
        from postroom.platform.aws.secrets import KmsSecrets

        client = self._account.kms()
        self._closing.callback(client.close)
        return KmsSecrets(client, self._set("aws_key").split(","), self.clock)

    @cached_property
    def timers(self) -> SchedulerTimers:
        from postroom.platform.aws.timers import SchedulerTimers

        client = self._account.scheduler()
        self._closing.callback(client.close)
        group, role = self._set("aws_schedules"), self._set("aws_schedule_role")
        return SchedulerTimers(client, self.queues, self.clock, group=group, role=role)

    @cached_property
    def workflows(self) -> StepWorkflows:
        from postroom.platform.aws.workflows import StepWorkflows

        client = self._account.stepfunctions()
        self._closing.callback(client.close)
        return StepWorkflows(client, self.tables, self.clock, machines=self._set("aws_machines"))

    @cached_property
    def feed(self) -> DynamoFeed:
        from postroom.platform.aws.feed import DynamoFeed

        client, streams = self._account.dynamodb(), self._account.streams()
        self._closing.callback(client.close)
        self._closing.callback(streams.close)
        return DynamoFeed(client, streams, self._set("aws_table"))

    @cached_property
    def journals(self) -> NoJournals:
        from postroom.platform.aws.journal import NoJournals

        return NoJournals(self.clock)

    @cached_property
    def rates(self) -> DynamoRates:
        from postroom.platform.aws.rates import DynamoRates

        return DynamoRates(self._table, self.clock)

    @cached_property
    def identity(self) -> CognitoIdentity | None:
        pool, issuer = self._settings.aws_user_pool, self._settings.issuer
        if pool is None or issuer is None or not issuer.endswith(f"/{pool}"):
            return None  # users sign in at another issuer
        from postroom.platform.aws.identity import CognitoIdentity

        client = self._account.cognito()
        self._closing.callback(client.close)
        return CognitoIdentity(client, pool, issuer=issuer)

    @cached_property
    def _table(self) -> Table:
        from postroom.platform.aws._dynamo import Table

        client = self._account.dynamodb()
        self._closing.callback(client.close)
        table = Table(client, self._set("aws_table"), self.clock)
        self._closing.callback(table.close)
        return table

    @cached_property
    def _s3(self) -> S3Client:
        client = self._account.s3()
        self._closing.callback(client.close)
        return client

    def _set(self, name: str) -> str:
        value: str | None = getattr(self._settings, name)
        if value is None:
            raise Invalid(f"POSTROOM_{name.upper()} is not set: with POSTROOM_PLATFORM=aws it says where the stack is")
        return value


def changes_of(records: Iterable[Mapping[str, Any]]) -> list[MessageChange]:
    """Return the message changes among the records of the table's stream, in the stream's order."""
    from postroom.platform.aws import feed

    return feed.changes_of(records)


def search_index(settings: Settings) -> SearchIndex:
    """Return the search index. Raises `Invalid` when POSTROOM_AWS_SEARCH is not set."""
    if settings.aws_search is None:
        raise Invalid("POSTROOM_AWS_SEARCH is not set: it says where messages are indexed")
    from postroom.platform.aws.search import SearchIndex

    return SearchIndex(settings.aws_search)


@dataclass(frozen=True, slots=True)
class Pager:
    """PagerDuty's Events API v2 (https://developer.pagerduty.com/docs/events-api-v2/overview/), for alarms of the stack."""

    routing_key: str = field(repr=False)
    url: str = PAGERDUTY
    networks: tuple[str, ...] = ()

    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event. Raises `Denied` if PagerDuty refuses it (a wrong key, say), `Unavailable` if it should be sent again."""
        response = asyncio.run(self._post(msgspec.json.encode(event)))
        if response.status in _REFUSED:
            raise Denied(f"PagerDuty refuses an alarm ({response.status}): {response.text[:200]}")
        if response.status // 100 != _SUCCESS:
            raise Unavailable(f"PagerDuty answered {response.status}")

    async def _post(self, body: bytes) -> WebResponse:
        from postroom.platform.web.client import WebClient

        client = WebClient(networks=self.networks, connections=1)
        try:
            return await client.post(self.url, {"Content-Type": "application/json"}, body)
        finally:
            await client.close()


def pager(settings: Settings) -> Pager | None:
    """Return None if no routing key is set (a secret of Secrets Manager)."""
    return None if settings.aws_pagerduty is None else _pager(settings.aws_pagerduty)


@cache
def _pager(secret: str) -> Pager:
    return Pager(secret_text(AwsAccount(), secret))
