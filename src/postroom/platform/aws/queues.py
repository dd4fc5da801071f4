"""`ports.queues` in SQS: a standard queue and one for its dead letters, found by name, created where no stack deployed them.

A standard queue accepts an old receipt handle, which may then delete or extend an item that another receiver has by now
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html). So a receipt carries the time
until which its lease certainly holds, taken before the request was sent. From then on it is refused here, without a call: before
that time no other receiver can have got the item. Only the receipt of the last receive before the dead letters needs no such
check: no receiver gets that item from this queue again.

    finding     one GetQueueUrl for each queue; only if it is absent it is created, which deployed functions' roles do not allow
    send        a batch call, split so that none exceeds SQS's size; entries that failed are sent again
    dead        SQS moves an item to the dead-letter queue when it would be received a sixth time
                (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html)
    redrive     receive there, send here, then delete there: a crash in between delivers twice, never loses
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from postroom.clock import Clock
from postroom.errors import Invalid, LeaseLost, Unavailable
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.ports.limits import check_name, check_page
from postroom.platform.ports.queues import (
    MAX_PER_CALL,
    MAX_RECEIVES,
    DeadLetter,
    QueueDepth,
    Received,
    check_bodies,
    check_delay,
    check_lease,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH_BYTES = 250_000  # SQS took 256 KiB in one call before it took 1 MiB, and not every region and emulator followed
_KEPT_S = str(4 * 86_400)
_DEAD_KEPT_S = str(14 * 86_400)  # as long as SQS keeps anything; its clock runs from the first send
_PEEK_S = 3
_REDRIVE_LEASE_S = 60
_TRIES = 5
_PAUSE_S = 0.1
_REMEMBERED = 10_000
# XML 1.0 §2.2 has no place for these; JSON text escapes the first kind, and may escape the other two.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NONCHARACTERS = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
_STALE = frozenset({"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"})
_NO_QUEUE = frozenset({"NonExistentQueue", "QueueDoesNotExist"})


class _Receipt(NamedTuple):
    """A receipt, read."""

    until: int
    receives: int
    handle: str


class SqsQueues:
    """`ports.queues.Queues` in SQS. Thread-safe."""

    def __init__(self, client: SQSClient, prefix: str, clock: Clock, *, dead_wait_s: int = 1) -> None:
        """`prefix`: the start of the queues' ARNs. Its last part, up to 18 letters, digits, `-` and `_`, separates installations
        in one account. `dead_wait_s`: wait time of a receive from the dead letters. Long polling queries all of SQS's servers,
        short polling may miss items
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html)."""
        self._client = client
        self._prefix = prefix
        self._clock = clock
        self._dead_wait_s = dead_wait_s
        self._urls: dict[str, str] = {}
        self._extended: dict[str, int] = {}
        self._lock = threading.Lock()

    def arn(self, queue: str, *, dead: bool = False) -> str:
        """The ARN of the queue or its dead-letter queue. Makes no call."""
        check_name(queue, "queue")
        return f"{self._prefix}{'d' if dead else 'q'}-{queue}"

    def send(self, queue: str, bodies: Sequence[str], *, delay_s: int = 0) -> None:
        check_name(queue, "queue")
        check_bodies(bodies)
        check_delay(delay_s)
        for batch in _batches([_sendable(body) for body in bodies]):
            self._send_batch(queue, batch, delay_s)

    def _send_batch(self, queue: str, bodies: Sequence[str], delay_s: int) -> None:
        entries = [{"Id": str(i), "MessageBody": body, "DelaySeconds": delay_s} for i, body in enumerate(bodies)]
        for attempt in range(_TRIES):
            answer = self._call("send_message_batch", queue, Entries=entries)
            failed = answer.get("Failed", [])
            if not failed:
                return
            if any(failure["SenderFault"] for failure in failed):
                raise Invalid(f"SQS refuses an item for queue {queue}: {failed[0]['Code']} {failed[0].get('Message', '')}")
            entries = [entries[int(failure["Id"])] for failure in failed]
            entries = [entry | {"Id": str(i)} for i, entry in enumerate(entries)]
            self._clock.sleep(_PAUSE_S * 2**attempt)
        raise Unavailable(f"SQS could not take {len(entries)} of the items for queue {queue}")

    def receive(self, queue: str, *, limit: int = 1, lease_s: int = 30) -> list[Received]:
        check_name(queue, "queue")
        check_page(limit, MAX_PER_CALL)
        check_lease(lease_s)
        until = self._clock.now() + lease_s * 1_000
        messages = self._receive(queue, limit=limit, lease_s=lease_s)
        return [_received(message, until) for message in messages]

    def _receive(self, queue: str, *, limit: int, lease_s: int, dead: bool = False) -> list[Any]:
        answer = self._call(
            "receive_message",
            queue,
            dead=dead,
            MaxNumberOfMessages=limit,
            VisibilityTimeout=lease_s,
            WaitTimeSeconds=self._dead_wait_s if dead else 0,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return list(answer.get("Messages", []))

    def delete(self, queue: str, receipt: str) -> None:
        parsed = _parse(receipt)
        if parsed.receives < MAX_RECEIVES:
            self._check_held(queue, receipt, parsed)
        with suppress(LeaseLost):  # no other receiver can have it: it was deleted before, is a dead letter, or was purged
            self._call("delete_message", queue, ReceiptHandle=parsed.handle)

    def extend(self, queue: str, receipt: str, lease_s: int) -> None:
        check_lease(lease_s)
        parsed = _parse(receipt)
        self._check_held(queue, receipt, parsed)
        until = self._clock.now() + lease_s * 1_000
        self._call("change_message_visibility", queue, ReceiptHandle=parsed.handle, VisibilityTimeout=lease_s)
        self._remember(receipt, until)

    def _check_held(self, queue: str, receipt: str, parsed: _Receipt) -> None:
        """Raises `LeaseLost` unless the lease certainly holds."""
        with self._lock:
            until = self._extended.get(receipt, parsed.until)
        if self._clock.now() >= until:
            raise LeaseLost(f"The lease of the item on queue {queue} ran out: another receiver may have it.")

    def _remember(self, receipt: str, until: int) -> None:
        with self._lock:
            self._extended[receipt] = until
            if len(self._extended) > _REMEMBERED:
                now = self._clock.now()
                self._extended = {known: end for known, end in self._extended.items() if end > now}

    def depth(self, queue: str) -> QueueDepth:
        check_name(queue, "queue")
        live, dead = self._attributes(queue), self._attributes(queue, dead=True)
        return QueueDepth(live[0], live[1], live[2], sum(dead))

    def _attributes(self, queue: str, *, dead: bool = False) -> tuple[int, int, int]:
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
        answer = self._call("get_queue_attributes", queue, dead=dead, AttributeNames=list(names))
        ready, leased, delayed = (int(answer["Attributes"].get(name, 0)) for name in names)
        return ready, leased, delayed

    def dead_letters(self, queue: str, *, limit: int = 10) -> list[DeadLetter]:
        """See the port. Items are received under a short lease that is returned at once: a crash in between hides them for 3 s.
        SQS counts that as a receive, so `receives` is the number that made them dead letters."""
        check_name(queue, "queue")
        check_page(limit, MAX_PER_CALL)
        messages = self._receive(queue, limit=limit, lease_s=_PEEK_S, dead=True)
        for message in messages:
            handle = message["ReceiptHandle"]
            with suppress(LeaseLost):  # redriven or purged meanwhile
                self._call("change_message_visibility", queue, dead=True, ReceiptHandle=handle, VisibilityTimeout=0)
        return [DeadLetter(message["MessageId"], message["Body"], MAX_RECEIVES) for message in messages]

    def redrive(self, queue: str) -> int:
        check_name(queue, "queue")
        moved = 0
        while messages := self._receive(queue, limit=MAX_PER_CALL, lease_s=_REDRIVE_LEASE_S, dead=True):
            for batch in _batches([message["Body"] for message in messages]):
                self._send_batch(queue, batch, 0)
            for message in messages:
                with suppress(LeaseLost):  # purged meanwhile
                    self._call("delete_message", queue, dead=True, ReceiptHandle=message["ReceiptHandle"])
            moved += len(messages)
        return moved

    def purge(self, queue: str) -> None:
        check_name(queue, "queue")
        self._call("purge_queue", queue)
        self._call("purge_queue", queue, dead=True)

    def _call(self, operation: str, queue: str, *, dead: bool = False, **parameters: Any) -> Any:
        """One call on the queue or its dead-letter queue. A queue that was deleted since is created again."""
        with aws_errors(f"calling {operation} on queue {queue}"):
            try:
                return self._call_once(operation, queue, dead, parameters)
            except ClientError as error:
                if _code(error) not in _NO_QUEUE:
                    raise
                self._urls.pop(self.arn(queue, dead=dead), None)
            return self._call_once(operation, queue, dead, parameters)

    def _call_once(self, operation: str, queue: str, dead: bool, parameters: dict[str, Any]) -> Any:
        url = self._url(queue, dead=dead)
        try:
            return getattr(self._client, operation)(QueueUrl=url, **parameters)
        except ClientError as error:
            if "ReceiptHandle" in parameters and _code(error) in _STALE:
                raise LeaseLost(f"The item is no longer on queue {queue}, or no longer ours.") from error
            raise

    def _url(self, queue: str, *, dead: bool) -> str:
        arn = self.arn(queue, dead=dead)
        if arn not in self._urls:
            try:
                self._urls[arn] = self._client.get_queue_url(QueueName=_name(arn))["QueueUrl"]
            except ClientError as error:
                if _code(error) not in _NO_QUEUE:
                    raise
                self._make(queue)
        return self._urls[arn]

    def _make(self, queue: str) -> None:
        """Create both queues. Harmless if they exist with the same attributes."""
        live, dead = self.arn(queue), self.arn(queue, dead=True)
        policy = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": MAX_RECEIVES})
        for arn, attributes in (
            (dead, {"MessageRetentionPeriod": _DEAD_KEPT_S}),
            (live, {"MessageRetentionPeriod": _KEPT_S, "RedrivePolicy": policy}),
        ):
            self._urls[arn] = self._client.create_queue(QueueName=_name(arn), Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]


def _received(message: Any, until: int) -> Received:
    receives = int(message["Attributes"]["ApproximateReceiveCount"])
    receipt = f"{until}.{receives}.{message['ReceiptHandle']}"
    return Received(message["MessageId"], message["Body"], receipt, receives)


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]


def _parse(receipt: str) -> _Receipt:
    until, receives, handle = (*receipt.split(".", 2), "", "", "")[:3]
    if not (until.isdecimal() and receives.isdecimal() and handle):
        raise Invalid("This receipt was not given by a receive.")
    return _Receipt(int(until), int(receives), handle)


def _code(error: ClientError) -> str:
    return error_code(error).rpartition(".")[2]


def _sendable(body: str) -> str:
    """The same JSON in characters that SQS accepts
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html)."""
    if not body or _CONTROL.search(body):
        raise Invalid("A body is JSON text: not empty, its control characters escaped.")
    return body.translate(_NONCHARACTERS)


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Split where a batch would exceed SQS's size for one call."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        length = len(body.encode())
        if batch and size + length > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch
