"""What a campaign costs on AWS, counted and priced: `python -m bench.aws [recipients]` (5,000 where nothing is said).

1. The same campaign of 1,000 through the stack's functions twice: beside the emulator, with real clients, and beside a stand-in
   for the table. Both must ask the table for the same, call by call.
2. A larger one beside the stand-in, because the emulator takes some hundred writes a second. What each message costs must be
   the same as in the small one.
3. A bill for a million messages, by list prices, for accounts of several rates.
4. What one function sends a second, on one processor, while SES takes 50 ms for each answer: beside the emulator.

Left out: sending by SES, OpenSearch's hours, audit trails of data events; storage, backups, metrics, alarms and what else is
billed by the month. docs/reference/aws-costs.md says more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.aws.emulator import Emulator

from bench.aws_bill import GATHERED, LATENCY_S, RECORDS, RECORDS_S, Bill, Counts
from bench.aws_engines import emulated, installed, mailing, searching
from bench.aws_prices import AS_OF, MILLION, PRICES, REGION
from postroom.pipeline.sender.dispatch import RATE_PER_FUNCTION

SMALL = 1_000
LARGE = 5_000
BY_ONE = 2_000
RATES = (14, 50, 150, 1_000)
"""Messages a second of an account: a new one's, and what it may grow to."""
FEW, MANY = 10, 100
"""Notices in a call."""
LATE_S = 0.05
_ABOUT = 1.02
"""The table's own answers may come in another order."""


def measured(environ: Mapping[str, str], **asked: Any) -> Counts:
    """In a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AWS_"))}
    usual = {"stand_in": True, "latency_s": LATENCY_S, "notices": MANY, "one_sender": False, "processor": None}
    command = [sys.executable, "-m", "bench.aws_campaign", json.dumps(usual | asked)]
    done = subprocess.run(command, env={**kept, **environ}, stdout=subprocess.PIPE, text=True, check=True)
    return Counts.of(json.loads(done.stdout))


def counted(emulator: Emulator, recipients: int) -> tuple[Counts, Counts, Counts]:
    """Beside the emulator; beside the stand-in; the large one."""
    with mailing() as mail, searching() as search:
        both = {"POSTROOM_MAIL": mail, "POSTROOM_AWS_SEARCH": search}
        real = measured(installed(emulator) | both, recipients=SMALL, stand_in=False, notices=FEW)
        few = measured(installed(emulator) | both, recipients=SMALL, notices=FEW)
        many = measured(installed(emulator) | both, recipients=recipients)
    return real, few, many


def sdk_s(real: Counts, few: Counts) -> float:
    """CPU of a call of the table, beyond what the adapters take: seen where next to nothing else is called."""
    names = ("import-reduce", "events")
    cpu_us = sum(real.spent[name]["cpu_us"] - few.spent[name]["cpu_us"] for name in names)
    return cpu_us / 1e6 / sum(real.calls(name, "dynamodb.") for name in names)


def show_counts(real: Counts, few: Counts, many: Counts) -> None:
    """Of a message, and how they grow."""
    print(f"{'units of the table a message':34} {'emulator':>10} {'stand-in':>10} {'stand-in':>10}  ratio")
    print(f"{'':34} {real.recipients:10,} {few.recipients:10,} {many.recipients:10,}")
    for what, title in (("own", "writes of messages' own items"), ("writes", "all writes"), ("reads", "reads")):
        seen, small, large = (each.total(what) / each.recipients for each in (real, few, many))
        print(f"{title:34} {seen:10.3f} {small:10.3f} {large:10.3f}  {large / small:.3f}")
        if not 1 / _ABOUT <= seen / small <= _ABOUT:
            raise SystemExit("the stand-in is no stand-in: the emulator was asked for something else")
    print(f"\n{'a message, by function':26} {'calls':>9} {'writes':>9} {'reads':>9} {'CPU here, µs':>13}")
    for name, spent in many.spent.items():
        n = spent["calls"] * GATHERED / RECORDS if name in RECORDS_S else many.recipients
        asked = [many.asked[name][what] / n for what in ("writes", "reads")]
        print(f"{name:26} {spent['calls'] / n:9.5f} {asked[0]:9.4f} {asked[1]:9.4f} {spent['cpu_us'] / n:13.1f}")


def show_bill(bill: Bill) -> None:
    """Side by side."""
    print(f"\nA million messages, dollars ({REGION}, list prices of {AS_OF}), for accounts that may send so many a second:")
    print(f"{'':18}" + "".join(f"{rate:>9,}" for rate in RATES) + "   units at 150")
    bills = [bill.at(rate) for rate in RATES]
    for lines in zip(*bills, strict=True):
        what, units = lines[0].what, lines[RATES.index(150)].units
        dollars = "".join(f"{line.dollars:9.2f}" for line in lines)
        print(f"{what:18}{dollars}   {units:12,.{0 if units >= 1 else 2}f} × {PRICES[what].unit}")
    print(f"{'in all':18}" + "".join(f"{sum(line.dollars for line in lines):9.2f}" for lines in bills))
    writes = [line.units / MILLION for lines in bills for line in lines if line.what == "table writes"]
    print(f"{'writes a message':18}" + "".join(f"{each:9.2f}" for each in writes))
    print(f"An installation that does nothing: ${bill.idle():.2f} a month for what is looked after each minute.")


def show_rate(emulator: Emulator) -> None:
    """One function that sends all, on one processor."""
    with mailing(late_s=LATE_S) as mail:
        environ = installed(emulator) | {"POSTROOM_MAIL": mail}
        sent = measured(environ, recipients=BY_ONE, stand_in=False, one_sender=True, processor=0)
    spent, n = sent.spent["sender"], sent.recipients
    rate, cpu = n / (spent["cpu_us"] + spent["waited_us"]) * MILLION, spent["cpu_us"] / n
    print(f"\nOne function on one processor, SES answering after {LATE_S * 1_000:.0f} ms:")
    print(f"{rate:,.0f} messages a second beside the emulator, {rate / RATE_PER_FUNCTION:.1f} times what it is given")
    print(f"{cpu:,.0f} µs of its own CPU a message: the processor alone would do for {MILLION / cpu:,.0f} a second")


def main() -> None:
    """Run the measurements and print the tables."""
    recipients = int(sys.argv[1]) if len(sys.argv) > 1 else LARGE
    with emulated() as emulator:
        real, few, many = counted(emulator, recipients)
        show_counts(real, few, many)
        sdk = sdk_s(real, few)
        print(f"\nthe SDK takes {sdk * 1e6:,.0f} µs of CPU a call of the table")
        show_bill(Bill(many, few, sdk_s=sdk))
        show_rate(emulator)


if __name__ == "__main__":
    main()
