"""What AWS answers on a bad day, scripted: throttled, half done, refused, broken off. No emulator, no waiting."""

from __future__ import annotations

import hashlib
import io
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError
from botocore.stub import ANY, Stubber

from postroom.errors import Conflict, Corrupt, Denied, Invalid, NotFound, PostroomError, TooLarge, Unavailable, Unsupported
from postroom.platform.aws._clients import AwsAccount, postroom_error
from postroom.platform.aws._dynamo import PrimaryKey, Table
from postroom.platform.aws.objects import Download, S3Objects
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.aws.tables import DynamoTables
from postroom.platform.ports.tables import Check, Delete, Expect, ItemKey, Put, Write
from tests.fakes.clock import ManualClock

ACCOUNT = AwsAccount("us-east-1", "http://127.0.0.1:9", "key", "secret")
KEY = ItemKey("t#1", "a")
OTHER = ItemKey("t#1", "b")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table(clock: ManualClock) -> Iterator[tuple[Table, Stubber]]:
    client = ACCOUNT.dynamodb()
    with closing(client), closing(Table(client, "postroom", clock)) as table, Stubber(client) as stub:
        yield table, stub


@pytest.fixture
def queues(clock: ManualClock) -> Iterator[tuple[SqsQueues, Stubber]]:
    client = ACCOUNT.sqs()
    with closing(client), Stubber(client) as stub:
        stub.add_response("get_queue_url", {"QueueUrl": "http://q/live"})
        yield SqsQueues(client, "arn:aws:sqs:us-east-1:123456789012:p-", clock), stub


@pytest.fixture
def objects(clock: ManualClock) -> Iterator[tuple[S3Objects, Stubber]]:
    client = ACCOUNT.s3()
    with closing(client), closing(S3Objects(client, "bucket", clock)) as objects, Stubber(client) as stub:
        yield objects, stub


def item(sort: str) -> dict[str, Any]:
    return {"pk": {"S": "T#t#1"}, "sk": {"S": sort}, "data": {"S": "{}"}, "version": {"N": "1"}}


def at(sort: str) -> dict[str, Any]:
    return {"pk": {"S": "T#t#1"}, "sk": {"S": sort}}


def test_keys_left_unread_are_asked_for_again_with_pauses(table: tuple[Table, Stubber], clock: ManualClock) -> None:
    subject, stub = table
    left = {"postroom": {"Keys": [at("b")], "ConsistentRead": True}}
    stub.add_response("batch_get_item", {"Responses": {"postroom": [item("a")]}, "UnprocessedKeys": left})
    stub.add_response("batch_get_item", {"Responses": {"postroom": []}, "UnprocessedKeys": left}, {"RequestItems": left})
    stub.add_response("batch_get_item", {"Responses": {"postroom": [item("b")]}, "UnprocessedKeys": {}}, {"RequestItems": left})
    assert set(DynamoTables(subject, clock).get_many([KEY, OTHER])) == {KEY, OTHER}
    assert len(clock.slept) == 2
    assert 0 < clock.slept[0] < clock.slept[1]
    stub.assert_no_pending_responses()


def test_keys_left_unread_for_ever_are_no_answer(table: tuple[Table, Stubber], clock: ManualClock) -> None:
    subject, stub = table
    left = {"postroom": {"Keys": [at("a")], "ConsistentRead": True}}
    for _ in range(10):
        stub.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": left})
    with pytest.raises(Unavailable):
        DynamoTables(subject, clock).get_many([KEY])
    stub.assert_no_pending_responses()


def test_items_left_undeleted_are_deleted_again(table: tuple[Table, Stubber]) -> None:
    subject, stub = table
    left = {"postroom": [{"DeleteRequest": {"Key": at("b")}}]}
    stub.add_response("batch_write_item", {"UnprocessedItems": left})
    stub.add_response("batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": left})
    subject.delete_many([PrimaryKey("T#t#1", "a"), PrimaryKey("T#t#1", "b")])
    stub.assert_no_pending_responses()


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_met_another_is_tried_again_and_at_last_given_up(
    table: tuple[Table, Stubber], clock: ManualClock, reason: str
) -> None:
    subject, stub = table
    writes: list[Write] = [Check(OTHER, 1), Delete(KEY, 1)]
    reasons = [{"Code": "None"}, {"Code": reason}]
    stub.add_client_error("transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons})
    stub.add_response("transact_write_items", {})
    assert DynamoTables(subject, clock).write(writes) == [0, 0]
    for _ in range(8):
        stub.add_client_error(
            "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons}
        )
    with pytest.raises(Unavailable):
        DynamoTables(subject, clock).write(writes)
    stub.assert_no_pending_responses()


def test_of_a_cancelled_transaction_the_first_unmet_demand_is_named(table: tuple[Table, Stubber], clock: ManualClock) -> None:
    subject, stub = table
    reasons = [{"Code": "TransactionConflict"}, {"Code": "ConditionalCheckFailed"}]
    stub.add_client_error("transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons})
    with pytest.raises(Conflict, match="b"):
        DynamoTables(subject, clock).write([Check(KEY, 1), Check(OTHER, 1)])


def test_a_put_refused_at_its_first_try_is_a_conflict_whatever_version_is_there(
    table: tuple[Table, Stubber], clock: ManualClock
) -> None:
    subject, stub = table
    theirs = item("a") | {"version": {"N": "9"}, "mark": {"S": "theirs"}}
    stub.add_client_error("put_item", "ConditionalCheckFailedException", modeled_fields={"Item": theirs})
    with pytest.raises(Conflict):
        DynamoTables(subject, clock).write([Put(KEY, {}, Expect.ABSENT)])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", Unavailable),
        ("ProvisionedThroughputExceededException", Unavailable),
        ("InternalServerError", Unavailable),
        ("SlowDown", Unavailable),
        ("SomethingNew", Unavailable),
        ("AccessDeniedException", Denied),
        ("ExpiredTokenException", Denied),
        ("403", Denied),
        ("ResourceNotFoundException", Unsupported),
        ("NoSuchBucket", Unsupported),
        ("ValidationException", Invalid),
        ("AWS.SimpleQueueService.BatchRequestTooLong", TooLarge),
    ],
)
def test_each_refusal_is_the_kind_of_ours_that_says_what_to_do(code: str, kind: type[PostroomError]) -> None:
    error = postroom_error(ClientError({"Error": {"Code": code, "Message": "because"}}, "Operation"), "reading the table x")
    assert type(error) is kind
    assert "reading the table x" in str(error)
    assert "because" in str(error)


def test_what_never_came_to_aws_is_told_apart_from_what_it_refused() -> None:
    assert type(postroom_error(NoCredentialsError(), "reading")) is Denied
    assert type(postroom_error(ReadTimeoutError(endpoint_url="http://x"), "reading")) is Unavailable


@pytest.mark.usefixtures("no_backoff")
def test_an_endpoint_that_is_not_there_is_unavailable(clock: ManualClock) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, and never listening: refused
        account = AwsAccount("us-east-1", f"http://127.0.0.1:{unheard.getsockname()[1]}", "key", "secret")
        client = account.dynamodb()
        with closing(client), closing(Table(client, "postroom", clock)) as table, pytest.raises(Unavailable, match="reading"):
            table.get(PrimaryKey("a", "b"))


def test_what_a_batch_could_not_take_is_sent_again_and_only_that(queues: tuple[SqsQueues, Stubber], clock: ManualClock) -> None:
    subject, stub = queues
    failed = {"Id": "1", "Code": "InternalError", "Message": "", "SenderFault": False}
    sent = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}
    stub.add_response("send_message_batch", {"Successful": [sent], "Failed": [failed]})
    again = {"QueueUrl": "http://q/live", "Entries": [{"Id": "0", "MessageBody": "2", "DelaySeconds": 0}]}
    stub.add_response("send_message_batch", {"Successful": [sent], "Failed": []}, again)
    subject.send("work", ["1", "2"])
    stub.assert_no_pending_responses()
    assert len(clock.slept) == 1


def test_what_a_batch_never_takes_is_an_error(queues: tuple[SqsQueues, Stubber]) -> None:
    subject, stub = queues
    failed = {"Id": "0", "Code": "InternalError", "Message": "", "SenderFault": False}
    for _ in range(5):
        stub.add_response("send_message_batch", {"Successful": [], "Failed": [failed]})
    with pytest.raises(Unavailable):
        subject.send("work", ["1"])
    stub.add_response("send_message_batch", {"Successful": [], "Failed": [failed | {"SenderFault": True}]})
    with pytest.raises(Invalid):
        subject.send("work", ["1"])


def test_no_call_passes_the_size_sqs_takes(queues: tuple[SqsQueues, Stubber]) -> None:
    subject, stub = queues
    for count in (1, 3):
        ids = [{"Id": str(n), "MessageId": "m", "MD5OfMessageBody": "x"} for n in range(count)]
        stub.add_response("send_message_batch", {"Successful": ids, "Failed": []}, {"QueueUrl": ANY, "Entries": [ANY] * count})
    subject.send("work", ["1" * 200_000, "2" * 200_000, "3" * 100, "4"])
    stub.assert_no_pending_responses()


def test_a_queue_that_was_deleted_under_our_hands_is_made_again(queues: tuple[SqsQueues, Stubber]) -> None:
    subject, stub = queues
    stub.add_client_error("receive_message", "AWS.SimpleQueueService.NonExistentQueue")
    stub.add_client_error("get_queue_url", "AWS.SimpleQueueService.NonExistentQueue")
    stub.add_response("create_queue", {"QueueUrl": "http://q/dead"}, {"QueueName": "p-d-work", "Attributes": ANY})
    stub.add_response("create_queue", {"QueueUrl": "http://q/new"}, {"QueueName": "p-q-work", "Attributes": ANY})
    stub.add_response("receive_message", {})
    assert subject.receive("work") == []
    stub.assert_no_pending_responses()


@pytest.mark.parametrize("body", ["", '"\x00"', "\x1b"])
def test_what_sqs_cannot_carry_is_no_json_and_invalid(queues: tuple[SqsQueues, Stubber], body: str) -> None:
    with pytest.raises(Invalid):
        queues[0].send("work", [body])


def test_characters_that_xml_lacks_are_escaped_to_the_same_json(queues: tuple[SqsQueues, Stubber]) -> None:
    subject, stub = queues
    entry = {"Id": "0", "MessageBody": '"\\uffff\\ufffe"', "DelaySeconds": 0}
    stub.add_response("send_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": ANY, "Entries": [entry]})
    subject.send("work", ['"\uffff\ufffe"'])


def test_a_conditional_put_that_met_another_is_put_again(objects: tuple[S3Objects, Stubber], clock: ManualClock) -> None:
    subject, stub = objects
    stub.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)
    stub.add_response("put_object", {"VersionId": "v2"})
    assert subject.put("key", iter([b"a", b"b"]), if_absent=True).version == "v2"
    assert len(clock.slept) == 1


@pytest.mark.parametrize(("code", "status"), [("400", 400), ("InvalidArgument", 400)])
def test_a_bad_request_without_a_version_is_no_sign_of_absence(
    objects: tuple[S3Objects, Stubber], code: str, status: int
) -> None:
    """A HEAD with an expired session gets a bare 400: that must not read as "no such object"."""
    subject, stub = objects
    for _ in range(2):
        stub.add_client_error("head_object", code, http_status_code=status)
        stub.add_client_error("get_object", code, http_status_code=status)
    with pytest.raises((Unavailable, Invalid)):
        subject.info("key")
    with pytest.raises((Unavailable, Invalid)):
        subject.get("key")
    assert subject.info("key", "no version") is None
    with pytest.raises(NotFound):
        subject.get("key", "no version")
    stub.assert_no_pending_responses()


class Broken:
    """A body that breaks off after each `good` bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        self._content = io.BytesIO(content)
        self._good = good

    def read(self, size: int) -> bytes:
        if self._good == 0:
            raise ReadTimeoutError(endpoint_url="http://x")
        chunk = self._content.read(min(size, self._good))
        self._good -= len(chunk)
        return chunk

    def close(self) -> None:
        self._good = 0


CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_download_goes_on_where_the_connection_broke() -> None:
    resumed: list[int] = []

    def resume(start: int) -> Broken:
        resumed.append(start)
        return Broken(CONTENT[start:], 3_000)

    with io.BufferedReader(Download(Broken(CONTENT, 3_000), resume, "key", SHA256)) as stream:
        assert stream.read() == CONTENT
    assert resumed == [3_000, 6_000, 9_000]


def test_a_download_that_brings_nothing_any_more_is_unavailable() -> None:
    with (
        io.BufferedReader(Download(Broken(CONTENT, 10), lambda _: Broken(b"", 0), "key", SHA256)) as stream,
        pytest.raises(Unavailable),
    ):
        stream.read()


def test_a_download_that_is_not_what_was_stored_is_corrupt_at_its_end() -> None:
    spoilt = CONTENT[:-1] + b"!"
    with io.BufferedReader(Download(Broken(spoilt, 10**6), lambda _: None, "key", SHA256)) as stream:
        assert stream.read(100) == CONTENT[:100]
        with pytest.raises(Corrupt):
            stream.read()
