"""One campaign through the functions of the stack, in this process, counted: from the upload until it is in the search index.

    python -m bench.aws_campaign '{"recipients": 1000, "stand_in": false, "notices": 10, …}'

The handlers are the stack's own, and the state machines are read from infra/machines. What AWS does between functions is done
here: a machine's next state, a queue's batch of notices, the stream's batch of records. `bench.aws` starts this, prices what it
prints, and says what is measured and what is taken for granted.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import boto3
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted

from bench.aws_bill import GATHERED, IDLE
from bench.aws_machine import Machine
from bench.aws_meter import NOTHING, Asked, Meter
from bench.aws_table import StandIn
from bench.campaign import COLUMNS
from bench.compose import html_template
from postroom.entrypoints.lambdas import events, import_steps, maintenance, send_steps, streams
from postroom.entrypoints.lambdas.runtime import container
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignSpec, CampaignStatus, Content
from postroom.model.message import Message
from postroom.model.tokens import MessageRef, ses_tags
from postroom.platform.aws import _clients
from postroom.platform.mail.port import Health, OutboundMessage, Result, Verdict
from postroom.services.campaign_creation import CampaignParts
from postroom.wiring.providers import SesAccounts

FOLLOWED = 100
"""Calls for the stream: the little server of the index grows slow where a real one does not."""
_PLATFORM_LOG = 330
"""Bytes of Lambda's own lines of a call: START, END, REPORT."""
_LEFT_MS = 900_000
_AN_HOUR = 1_800_000_000
_MAILED = b"From: news@example.com\r\nSubject: news\r\n\r\nHello"


class Context(NamedTuple):
    """Of a call."""

    aws_request_id: str
    function_name: str

    def get_remaining_time_in_millis(self) -> int:
        return _LEFT_MS


class Log(io.TextIOBase):
    """Counts what functions write, and keeps nothing."""

    size = 0

    def write(self, text: str) -> int:
        self.size += len(text.encode())
        return len(text)


class Functions:
    """Calls them, and keeps account of each."""

    def __init__(self, meter: Meter, log: Log) -> None:
        self._meter = meter
        self._log = log
        self.spent: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.asked: dict[str, Asked] = {}

    def named(self, name: str, handler: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        def call(event: Any) -> Any:
            with self.counted(name, _PLATFORM_LOG):
                return handler(event, Context("11111111-2222-3333-4444-555555555555", f"postroom-bench-{name}"))

        return call

    @contextmanager
    def counted(self, name: str, log: int = 0) -> Iterator[None]:
        """Whatever is done meanwhile is this function's."""
        before, written, cpu, wall = self._meter.asked(), self._log.size, time.process_time(), time.monotonic()
        yield
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        asked = self._meter.asked().since(before)
        self.asked[name] = self.asked.get(name, NOTHING).plus(asked)
        waited = max(0.0, wall - cpu)
        self.spent[name] += Counter(calls=1, cpu_us=round(cpu * 1e6), waited_us=round(waited * 1e6))
        self.spent[name]["log"] += self._log.size - written + log


class InstantMailer:
    """Takes everything at once: what a call of SES costs is measured by bench.ses."""

    waiting = 0
    _numbers = itertools.count()

    def submit(self, delivery: OutboundMessage) -> None:
        if delivery.compose() is not None and delivery.handing_over():
            number = f"0100018f3a5b7c9d-0a1b2c3d-4e5f-6071-8293-{next(self._numbers):012x}-000000"
            delivery.settled(Result(Verdict.ACCEPTED, 200, provider_id=number))

    def recall(self) -> None: ...

    def health(self) -> Health:
        return Health(True, "", 0, 1, 0)

    async def start(self) -> None: ...

    async def close(self, grace_s: float) -> None: ...


def main() -> None:
    asked = json.loads(sys.argv[1])
    output, sys.stdout = sys.stdout, Log()  # where the functions log
    meter = Meter()
    table = _connect(meter, asked)
    campaign = Campaign(asked["recipients"], Functions(meter, sys.stdout), table)
    if asked["processor"] is not None:
        os.sched_setaffinity(0, {asked["processor"]})
    told = campaign.sent_by_one() if asked["one_sender"] else campaign.run(asked["notices"])
    print(json.dumps(told), file=output)


def _connect(meter: Meter, asked: Any) -> StandIn | None:
    """Have all clients watched; the table's replaced, if it is to be."""

    class Watched(_clients._Shared):
        def __init__(self) -> None:
            super().__init__()
            self.session = boto3.session.Session()
            meter.watch(self.session.events)

    _clients._Shared = Watched  # type: ignore[misc]
    if not asked["stand_in"]:
        return None
    table = StandIn(meter, latency_s=asked["latency_s"])
    _clients.AwsAccount.dynamodb = lambda _: table  # type: ignore[method-assign,assignment,return-value]
    SesAccounts.mailer = lambda *_: InstantMailer()  # type: ignore[method-assign,assignment]
    return table


class Campaign:
    """Sends one campaign through the steps and counts its requests."""

    def __init__(self, recipients: int, functions: Functions, table: StandIn | None) -> None:
        self._recipients = recipients
        self._functions = functions
        self._table = table
        self._opened = container()
        self._transitions: dict[str, int] = {}

    def run(self, at_once: int) -> dict[str, Any]:
        """`at_once`: notices in a call."""
        with self._functions.counted("API"):
            campaign_ref = self._made()
        self._machine("import", scheduler_messages.IMPORT, campaign_ref)
        self._note()
        self._machine("send", scheduler_messages.SEND, campaign_ref)
        assert self._opened.records.get(campaign_ref).status is CampaignStatus.COMPLETED
        self._minute(1)
        self._hear(campaign_ref, at_once)
        self._minute(2)
        assert self._opened.messages.counts(campaign_ref).delivered == self._recipients
        self._follow()
        self._minute(3, IDLE)
        return {
            "recipients": self._recipients,
            "spent": self._functions.spent,
            "asked": {name: {**each._asdict()} for name, each in self._functions.asked.items()},
            "transitions": self._transitions,
        }

    def sent_by_one(self) -> dict[str, Any]:
        """All in one call of the sender."""
        campaign_ref = self._made()
        self._machine("import", scheduler_messages.IMPORT, campaign_ref)
        self._note()
        self._machine("send", scheduler_messages.SEND, campaign_ref, listed=lambda portions: [list(itertools.chain(*portions))])
        return {"recipients": self._recipients, "spent": self._functions.spent}

    def _made(self) -> CampaignRef:
        spec = CampaignSpec(
            name="bench",
            content=Content(
                from_="News <news@example.com>",
                subject="{{ first_name }}, your news",
                variables=tuple(dict.fromkeys(COLUMNS.split(","), "").items()),
            ),
        )
        parts = CampaignParts(html=html_template())
        rows = (
            f"person{n}@example.com,Anna {n},Acme & Sons,Team,{n % 97},2027-01-{n % 28 + 1:02}\n" for n in range(self._recipients)
        )
        sheet = io.BytesIO(f"email,{COLUMNS}\n{''.join(rows)}".encode())
        return self._opened.campaign_creator.create("default", spec, parts, sheet, filename="people.csv").ref

    def _machine(
        self, name: str, workflow: str, campaign_ref: CampaignRef, *, listed: Callable[[Any], Any] = lambda items: items
    ) -> None:
        handlers = {
            "ImportPlan": ("import-plan", import_steps.plan),
            "ImportRange": ("import-range", import_steps.range_),
            "ImportReduce": ("import-reduce", import_steps.reduce),
            "ImportFinish": ("import-finish", import_steps.finish),
            "SendRound": ("send-round", send_steps.round_),
            "Sender": ("sender", send_steps.batches),
        }
        functions = {f"${{{each}}}": self._functions.named(*handler) for each, handler in handlers.items()}
        machine = Machine.named(name, functions, lambda key: listed(json.loads(self._opened.objects.get(key))))
        machine.run(
            {
                "workflow": workflow,
                "execution": campaign_ref.campaign,
                "run": 1,
                "input": scheduler_messages.ref_input(campaign_ref),
            }
        )
        self._transitions[name] = machine.transitions

    def _note(self) -> None:
        queues = self._opened.queues
        for item in queues.receive(scheduler_messages.SCHEDULER_QUEUE, limit=10, lease_s=60):
            self._functions.named("scheduler", maintenance.schedule)(_batch(scheduler_messages.SCHEDULER_QUEUE, [item.body]))
            queues.delete(scheduler_messages.SCHEDULER_QUEUE, item.receipt)

    def _minute(self, minute: int, name: str = "") -> None:
        """What the rule of each minute does; of minutes in which nothing rarer is due."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_AN_HOUR + 60 * minute))
        self._functions.named(f"maintenance{name}", maintenance.run_jobs)({"time": at})
        self._functions.named(f"callbacks-sender{name}", streams.send_callbacks)({"time": at})

    def _hear(self, campaign_ref: CampaignRef, at_once: int) -> None:
        tenant = self._opened.tenants.get(campaign_ref.tenant).number
        for some in _parts(list(self._messages(campaign_ref)), at_once):
            bodies = [
                _notice(message, MessageRef(tenant, campaign_ref.campaign, message.batch, message.key, 1)) for message in some
            ]
            self._functions.named("events", events.handler)(_batch(events.NOTICES, bodies))

    def _messages(self, campaign_ref: CampaignRef) -> Iterator[Message]:
        cursor = None
        while True:
            page = self._opened.messages.list(campaign_ref, cursor=cursor, limit=1_000)
            yield from page.messages
            cursor = page.cursor
            if cursor is None:
                return

    def _follow(self) -> None:
        """What the emulator's stream would bring, the stand-in has kept."""
        changes = [] if self._table is None else self._table.stream
        now = time.time()
        for some in itertools.islice(_parts(changes, GATHERED), FOLLOWED):
            records = [_record(before, after, now) for before, after in some]
            self._functions.named("callbacks-stream", streams.enqueue_callbacks)({"Records": records})
            self._functions.named("indexer", streams.index_messages)({"Records": records})


def _parts(all_: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    return (all_[first : first + most] for first in range(0, len(all_), most))


def _batch(queue: str, bodies: Sequence[str]) -> dict[str, Any]:
    arn = f"{os.environ['POSTROOM_AWS_QUEUES']}q-{queue}"
    return {
        "Records": [
            {"messageId": str(number), "receiptHandle": "x", "body": body, "eventSourceARN": arn}
            for number, body in enumerate(bodies)
        ]
    }


def _notice(message: Message, ref: MessageRef) -> str:
    now = time.time()
    provider_id = message.provider_id or "unknown"
    accepted = Accepted(provider_id, message.address, "news@example.com", "postroom", dict(ses_tags(ref)), _MAILED, 1, now)
    return json.dumps(notices.delivery(accepted, now))


def _record(before: Any, after: Any, now: float) -> dict[str, Any]:
    item = after or before
    told = {"Keys": {"pk": item["pk"], "sk": item["sk"]}, "ApproximateCreationDateTime": now, "SequenceNumber": "1"}
    told |= {"NewImage": after} if after else {}
    told |= {"OldImage": before} if before else {}
    return {"eventID": "1", "eventName": "MODIFY", "dynamodb": told}


if __name__ == "__main__":
    main()
