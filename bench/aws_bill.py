"""From what was counted to what AWS bills, at a rate that an SES account may have.

Taken for granted, and not measured:

- a processor of Lambda's is half as fast as one of the machine that measured; a function of less than 1,769 MB has a share of it
- a call of the table takes 5 ms (the stand-in waits as long) and costs the SDK as much CPU as beside the emulator
- a function sends 150 messages a second, as campaigns are divided by, or fewer where the account's rate is less
- a function is called with what comes within the window for which the stack has it wait, at an even pace
- a queue's poller takes ten items a request; what puts and deletes them counts as well, SNS's putting too
- X-Ray records one call in twenty, and one a second of each of the functions that follow the sender
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from bench.aws_prices import MILLION, PRICES
from postroom.entrypoints.lambdas.send_steps import SHARD_S
from postroom.model.batch import GROUP_SIZE
from postroom.pipeline.sender.dispatch import RATE_PER_FUNCTION
from postroom.pipeline.sender.provider_route import BULK_SHARE
from postroom.pipeline.sender.rate_gate import GRANT, GRANTS
from postroom.wiring.container import MOMENT_ON_AWS_S

IDLE: Final = ", idle"
"""Of a function that was called when there was nothing to do."""
LATENCY_S: Final = 0.005
SLOWER: Final = 2.0
PROCESSOR_MB: Final = 1_769
MEMORY_MB: Final = dict.fromkeys(
    ("import-plan", "import-range", "import-reduce", "import-finish", "send-round", "sender", "maintenance", "events"),
    PROCESSOR_MB,
)
SMALL_MB: Final = 1_024
"""As infra/stage.py sizes the functions, these and the others."""
GATHERED: Final = 100
"""Notices, and records of the stream, in a call at most."""
NOTICES_S: Final = 2
RECORDS_S: Final = {"callbacks-stream": 1, "indexer": 5}
"""How long they are gathered, as infra/pipeline.py says."""
_POLLERS: Final = 5
"""Of a queue, at the least."""
_SHARDS: Final = 4
_READERS: Final = 2
"""Of the stream: those of a new table, and the readers of each."""
RECORDS: Final = 3
"""Of a message: stored, sent, delivered."""
_BUCKETS: Final = 2
_API_CALLS: Final = 30
"""Calls per campaign: sign in, template, upload, create, and a few looks at the status."""
_KEYS_A_UNIT: Final = 64
"""Of a group, in the first unit of its record, about."""
_GB: Final = 1e9
_MINUTES_A_MONTH: Final = 30 * 24 * 60
_BY_NOTICES: Final = frozenset({"events"})


@dataclass(frozen=True, slots=True)
class Counts:
    """One campaign, as bench.aws_campaign told of it."""

    recipients: int
    spent: dict[str, Counter[str]]
    asked: dict[str, Any]
    transitions: dict[str, int]

    @classmethod
    def of(cls, told: Any) -> Counts:
        spent = {name: Counter(each) for name, each in told["spent"].items()}
        return cls(told["recipients"], spent, told.get("asked", {}), told.get("transitions", {}))

    def total(self, what: str) -> int:
        """`writes`, `reads`, or `own`."""
        return sum(each[what] for each in self.asked.values())

    def calls(self, name: str, prefix: str = "") -> int:
        """A function's, of a service."""
        return sum(n for operation, n in self.asked[name]["calls"].items() if operation.startswith(prefix))

    def called(self, *operations: str) -> int:
        return sum(each["calls"].get(operation, 0) for each in self.asked.values() for operation in operations)


@dataclass(frozen=True, slots=True)
class Line:
    """Of a bill."""

    what: str
    units: float
    """Of a million messages."""

    @property
    def dollars(self) -> float:
        return self.units * PRICES[self.what].dollars


class Bill:
    """Of a million messages, all of which are delivered."""

    def __init__(self, counts: Counts, few: Counts, *, sdk_s: float) -> None:
        """`few`: a campaign whose notices came ten at a time, so that it is seen what a call costs and what a notice costs.
        `sdk_s`: CPU of a call of the table beside the adapters' own."""
        self._counts = counts
        self._few = few
        self._sdk_s = sdk_s

    def at(self, rate: float) -> list[Line]:
        """`rate`: messages a second that the account may send."""
        bulk, n = rate * BULK_SHARE, self._counts.recipients
        calls = {name: self._calls(name, bulk) for name in self._counts.spent if name != "API" and not name.endswith(IDLE)}
        seconds_gb = sum(calls[name] * self._seconds(name, calls[name], bulk) * _gb(name) for name in calls)
        more = self._unlike_measured(bulk)
        asked = self._counts
        busy = len((*_BY_NOTICES, *RECORDS_S)) * n / bulk
        units = {
            "table writes": asked.total("writes") + more["writes"] * n,
            "table reads": asked.total("reads") + more["reads"] * n,
            "function calls": sum(calls.values()) + _API_CALLS,
            "function time": seconds_gb,
            "transitions": sum(asked.transitions.values()) + n / bulk / SHARD_S * (3 + 2 * math.ceil(bulk / RATE_PER_FUNCTION)),
            "notices": n,
            "queue calls": n + 2 * max(n / 10, calls["events"]) + asked.called("sqs.SendMessage", "sqs.SendMessageBatch") * 3,
            "object puts": asked.called("s3.PutObject", "s3.ListObjectVersions", "s3.DeleteObjects"),
            "object gets": asked.called("s3.GetObject", "s3.HeadObject"),
            "key calls": sum(
                number for each in asked.asked.values() for name, number in each["calls"].items() if name[:4] == "kms."
            ),
            "schedules": 1,
            "API calls": _API_CALLS,
            "logs": sum(calls[name] * asked.spent[name]["log"] / asked.spent[name]["calls"] for name in calls) / _GB,
            "traces": sum(calls.values()) / 20 + busy,
        }
        return [Line(what, each / n * MILLION) for what, each in units.items()]

    def _calls(self, name: str, bulk: float) -> float:
        n = self._counts.recipients
        if name in _BY_NOTICES:
            return n / _gathered(bulk * NOTICES_S / _POLLERS)
        if name in RECORDS_S:
            return n * RECORDS / _gathered(bulk * RECORDS * RECORDS_S[name] / _SHARDS / _READERS)
        return self._counts.spent[name]["calls"]

    def _seconds(self, name: str, calls: float, bulk: float) -> float:
        """Of one call."""
        measured = self._billed(self._counts, name)
        if name == "sender":  # it waits for the rate, and never needs as long as that
            return max(measured, self._counts.recipients / min(bulk, RATE_PER_FUNCTION) / calls)
        if name in _BY_NOTICES:
            few, many = self._few, self._counts
            ours, theirs = (each.recipients / each.spent[name]["calls"] for each in (few, many))
            a_notice = (measured - self._billed(few, name)) / (theirs - ours)
            return measured + (self._counts.recipients / calls - theirs) * a_notice
        if name in RECORDS_S:  # what a call waits for does not grow with its records, and nearly all that it computes does
            spent = self._counts.spent[name]
            waits = spent["waited_us"] / 1e6 / spent["calls"]
            records = self._counts.recipients * RECORDS / calls
            return waits + (measured - waits) * records / GATHERED
        return measured

    def _billed(self, counts: Counts, name: str) -> float:
        """Of a call, as it was measured."""
        spent = counts.spent[name]
        cpu = spent["cpu_us"] / 1e6 + counts.calls(name, "dynamodb.") * self._sdk_s
        share = min(1.0, MEMORY_MB.get(name.removesuffix(IDLE), SMALL_MB) / PROCESSOR_MB)
        return (cpu * SLOWER / share + spent["waited_us"] / 1e6) / spent["calls"]

    def idle(self) -> float:
        """Dollars a month for the functions that are called each minute, when there is nothing to do."""
        names = [name for name in self._counts.spent if name.endswith(IDLE)]
        one = sum(self._billed(self._counts, name) * _gb(name) for name in names) * PRICES["function time"].dollars
        one += len(names) * PRICES["function calls"].dollars
        one += sum(self._counts.asked[name]["reads"] for name in names) * PRICES["table reads"].dollars
        return float(one * _MINUTES_A_MONTH)

    def _unlike_measured(self, bulk: float) -> dict[str, float]:
        """Where mail leaves more slowly, groups and grants are smaller: units a message beyond what was counted."""
        group = max(1.0, min(GROUP_SIZE, bulk * MOMENT_ON_AWS_S))
        grant = max(1.0, min(GRANT, group, bulk * MOMENT_ON_AWS_S / GRANTS))
        grants = _BUCKETS * (1 / grant - 1 / GRANT)
        groups = math.ceil(group / _KEYS_A_UNIT) / group - math.ceil(GROUP_SIZE / _KEYS_A_UNIT) / GROUP_SIZE
        reads = 2 * (1 / group - 1 / GROUP_SIZE)
        return {"writes": grants + max(0.0, groups), "reads": grants + reads}


def _gathered(in_time: float) -> float:
    return max(1.0, min(GATHERED, in_time))


def _gb(name: str) -> float:
    return MEMORY_MB.get(name.removesuffix(IDLE), SMALL_MB) / 1_024
