"""AWS's list prices, us-east-1, as published in the first half of 2025: what a unit is, and what it costs.

No free tier, no discounts.

Who pays by another list changes the numbers here; `python -m bench.aws` prices by them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

REGION: Final = "us-east-1"
AS_OF: Final = "2025-06"
MILLION: Final = 1_000_000


class Price(NamedTuple):
    """Of one unit."""

    unit: str
    dollars: float


PRICES: Final[dict[str, Price]] = {
    "table writes": Price("write request unit (1 KB), on demand", 0.625 / MILLION),
    "table reads": Price("read request unit (4 KB, strongly consistent), on demand", 0.125 / MILLION),
    "function calls": Price("request of Lambda", 0.20 / MILLION),
    "function time": Price("GB-second of Lambda, x86", 0.0000166667),
    "transitions": Price("state transition of Step Functions, standard", 25.0 / MILLION),
    "notices": Price("publish of SNS (64 KB); its delivery to SQS is free", 0.50 / MILLION),
    "queue calls": Price("request of SQS, standard queue", 0.40 / MILLION),
    "object puts": Price("PUT, LIST of S3", 5.0 / MILLION),
    "object gets": Price("GET of S3", 0.40 / MILLION),
    "key calls": Price("request of KMS", 3.0 / MILLION),
    "schedules": Price("invocation of EventBridge Scheduler", 1.0 / MILLION),
    "API calls": Price("call of an API Gateway REST API", 3.50 / MILLION),
    "logs": Price("GB taken in by CloudWatch Logs", 0.50),
    "traces": Price("trace recorded by X-Ray", 5.0 / MILLION),
}
