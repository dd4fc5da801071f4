"""How many mails that came back are read and classified a second on one core, and what only parsing them with `email` costs.

    python -m bench.bounces [rounds]

The mails of tests/data/bounces, each as it is and with 20 KB of the returned mail behind it, as most reports have.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from postroom.events.bounce_parser import parse_report

MAILS = Path(__file__).parents[1] / "tests" / "data" / "bounces"
RETURNED = b"\n<p style='margin:0'>Good news about what you subscribed to, in plain words.</p>" * 250


def with_returned(raw: bytes) -> bytes:
    """The mail with more of ours in it."""
    return raw.replace(b"Hello, this mailbox", RETURNED + b"\n\nHello, this mailbox")


def a_second(work: Callable[[bytes], object], mails: list[bytes], rounds: int) -> float:
    """The best of three runs, by the processor's time."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for _ in range(rounds):
            for mail in mails:
                work(mail)
        best = min(best, time.process_time() - started)
    return rounds * len(mails) / best


def parsed_and_decoded(raw: bytes) -> list[object]:
    """What the standard library takes to get at the parts; no question is answered yet."""
    parts: Iterable[Message] = message_from_bytes(raw).walk()
    return [part.get_payload(decode=True) for part in parts]


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    mails = [path.read_bytes() for path in sorted(MAILS.glob("*.eml"))]
    for title, sample in (("as they stand", mails), ("with 20 KB returned", [with_returned(mail) for mail in mails])):
        ours, usual = a_second(parse_report, sample, rounds), a_second(parsed_and_decoded, sample, rounds)
        print(f"{title}, {sum(map(len, sample)) // len(sample):,} bytes on average")
        print(f"  read and classified          {ours:8,.0f} a second")
        print(f"  parsed with `email` only     {usual:8,.0f} a second")


if __name__ == "__main__":
    main()
