"""The functions that hear, tell and keep house, on AWS's own engines as far as an emulator has them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from postroom.callbacks.dispatcher import QUEUE
from postroom.entrypoints.lambdas import events, maintenance
from postroom.entrypoints.lambdas import streams as callbacks
from postroom.entrypoints.lambdas import streams as stream_records
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.ledger.suppression import SuppressionReason
from postroom.model.callback import DeliveryStatus
from postroom.model.event import EventKind
from postroom.model.message import MessageStatus
from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws._schema import make_table
from postroom.platform.ports.feed import MessageChange
from postroom.settings import Settings
from postroom.wiring import open_app
from tests.aws.emulator import REGION, emulator
from tests.fakes.ses_simulator import notices
from tests.lambdas.kit import Context, from_queue, returned
from tests.lambdas.test_events import Desk

TABLE = "postroom-test"
Records = Callable[[], list[Any]]


def _machine(account: AwsAccount) -> str:
    """The one that sends, which has nothing to do here; what the ARNs of all begin with."""
    session = boto3.Session(account.access_key, account.secret_key, region_name=REGION)
    with closing(session.client("iam", endpoint_url=account.endpoint)) as people:
        role = people.create_role(RoleName="machines", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    definition = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
    with closing(account.stepfunctions()) as client:
        made = client.create_state_machine(name=f"{TABLE}-send", definition=json.dumps(definition), roleArn=role)
    return made["stateMachineArn"].removesuffix("send")


@pytest.fixture
def desk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A stack's worth of engines in an account of its own, and a message that SES took."""
    account = emulator(request.config).account()
    assert account.access_key is not None
    assert account.endpoint is not None
    for name, value in {
        "AWS_ACCESS_KEY_ID": account.access_key,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": account.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    client = account.dynamodb()
    make_table(client, TABLE)
    client.close()
    kms = account.kms()
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.close()
    machines = _machine(account)
    prefix = f"arn:aws:sqs:{REGION}:{account.access_key}:{TABLE}-"
    environ = {
        "POSTROOM_PLATFORM": "aws",
        "POSTROOM_AWS_TABLE": TABLE,
        "POSTROOM_AWS_BUCKET": TABLE,
        "POSTROOM_AWS_QUEUES": prefix,
        "POSTROOM_AWS_KEY": key,
        "POSTROOM_AWS_MACHINES": machines,
        "POSTROOM_CALLBACK_NETWORKS": "127.0.0.0/8",
    }
    with open_app(Settings.load(environ, None, {})) as opened:
        for queue in (QUEUE, "feedback"):  # the stack's
            sqs = account.sqs()
            dead = sqs.create_queue(QueueName=f"{TABLE}-d-{queue}")["QueueUrl"]
            arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
            sqs.create_queue(QueueName=f"{TABLE}-q-{queue}", Attributes={"RedrivePolicy": policy})
            sqs.close()
        for module in (events, callbacks, maintenance):
            monkeypatch.setattr(module, "container", lambda: opened)
        yield Desk(opened)


def test_a_notice_is_on_the_record_and_the_list(desk: Desk) -> None:
    notice = desk.notice()
    for _ in range(2):
        assert desk.call("notices", notice, desk.notice(notices.delivery), "nonsense") == []
    assert desk.stands().status is MessageStatus.BOUNCED
    entry = desk.postroom.suppression.get("default", desk.key)
    assert entry is not None
    assert entry.reason is SuppressionReason.BOUNCE


def test_what_an_endpoint_is_owed_is_asked_of_it_once_and_a_wake_of_another_function_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    postroom, asked = desk.postroom, list[str]()
    postroom.callbacks.create(
        "default", EndpointSettings(url="https://x.example/", kinds=frozenset(EventKind)), id="hook", secret=b"s" * 32
    )
    now = postroom.clock.now()
    change = MessageChange(
        desk.campaign_ref, 0, desk.key, MessageStatus.SENT, 1, now, 250, "ok", None, 7, type(now)(now + 60_000)
    )
    monkeypatch.setattr(stream_records, "changes_of", list)
    callbacks.enqueue_callbacks({"Records": [change]}, Context())
    (wake,) = postroom.queues.receive(QUEUE)

    async def post(_self: object, url: str, _headers: object, body: bytes) -> Any:
        asked.append(json.loads(body)["data"]["recipient"])
        return Answered()

    monkeypatch.setattr("postroom.platform.web.client.WebClient.post", post)

    async def both() -> tuple[list[EndpointRef], list[EndpointRef]]:
        lane, others = [EndpointRef("default", "hook")], desk.postroom.callback_dispatcher
        one, other = await asyncio.gather(others.run(lane, seconds=5), others.run(lane, seconds=5))
        return one, other

    assert asyncio.run(both()) == ([], [])
    assert returned(callbacks.send_callbacks(from_queue(QUEUE, wake.body), Context())) == []
    assert asked == ["anna@example.net"]
    (delivery,) = postroom.deliveries.list("default", "hook").items
    assert delivery.status is DeliveryStatus.DELIVERED
    callbacks.send_callbacks({"source": "aws.events"}, Context())
    assert postroom.queues.receive(QUEUE) == []


def test_the_house_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    counted: dict[str, float] = {}
    monkeypatch.setattr(maintenance, "count", lambda name, value=1: counted.update({name: value}))
    desk.call("notices", desk.notice())
    maintenance.run_jobs({"time": "2026-11-24T00:00:00Z"}, Context())
    assert counted == {"StuckCampaigns": 0}
    assert list(desk.postroom.messages.stale(desk.campaign_ref)) == []
    assert "maintenance.job_failed" not in caplog.text


def test_the_table_s_own_stream_tells_an_endpoint_what_came_back(desk: Desk, records: Records) -> None:
    postroom = desk.postroom
    postroom.callbacks.create(
        "default", EndpointSettings(url="https://x.example/", kinds=frozenset(EventKind)), id="hook", secret=b"s" * 32
    )
    desk.call("notices", desk.notice())
    for _ in range(2):  # it may come again
        callbacks.enqueue_callbacks({"Records": records()}, Context())
    bodies = [json.loads(each.body) for each in postroom.deliveries.list("default", "hook").items]
    (bounced,) = [body["data"] for body in bodies if body["type"] == "message.bounced"]
    assert (bounced["recipient"], bounced["status"]) == ("anna@example.net", "bounced")
    assert len(bodies) == len({body["data"]["event_id"] for body in bodies})


@pytest.fixture
def records(desk: Desk) -> Records:
    """All that the stream holds."""
    account = AwsAccount(REGION, os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_ACCESS_KEY_ID"], "test")

    def read() -> list[Any]:
        with closing(account.dynamodb()) as tables, closing(account.streams()) as streams:
            arn = tables.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
            found: list[Any] = []
            for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
                wanted = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
                first = streams.get_shard_iterator(**wanted)["ShardIterator"]  # type: ignore[arg-type]
                found += streams.get_records(ShardIterator=first)["Records"]
            return found

    return read


class Answered:
    """What a tenant's server says."""

    status, text, retry_after_s, took_ms = 200, "ok", None, 3
