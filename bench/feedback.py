"""Sending while everything comes back, as a ratio to sending while nothing does, on the same running server.

    python -m bench.feedback [--recipients N]

Every message is delivered, 5 % bounce, 30 % are opened: what a receiving side would tell is put where listeners put it, as soon
as the message has left, by a process of its own. The ratio asked for is 0.8. Then, how long it takes until all is recorded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

from bench.serve import Api, order, server
from bench.smtp import smtp_sink
from postroom.clock import Instant
from postroom.ledger.inbound_events import InboundEvent, InboundEventQueue
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.message import MessageStatus
from postroom.platform.ports.feed import MessageChange
from postroom.settings import Settings
from postroom.wiring.stores import open_stores

_HARD = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
_PATIENCE_S = 600


def events_of(change: MessageChange, number: int) -> Iterator[Event]:
    """What comes back of the `number`-th message that left."""
    at = Instant(change.at + 5_000)
    yield Event(kind=EventKind.DELIVERED, attempt=change.attempt, at=at, id="d", source="dsn")
    if number % 20 == 0:
        yield Event(kind=EventKind.BOUNCED, attempt=change.attempt, at=at, id="b", source="dsn", bounce=_HARD)
    if number % 10 < 3:
        yield Event(kind=EventKind.OPENED, attempt=change.attempt, at=at, id="o", source="tracking")


def answer(data: Path, begin: Flag, done: Flag) -> None:
    """The receiving side: follows what is sent, and tells what became of it."""
    os.nice(15)  # it stands for machines elsewhere
    with open_stores(Settings(data=data)) as stores:
        arrivals, positions, number = InboundEventQueue(stores.queues), dict[str, str | None](), 0
        for shard in stores.feed.shards():
            positions[shard] = stores.feed.read(shard, None, limit=10**9).position
        begin.set()
        while not done.is_set():
            heard: list[InboundEvent] = []
            for shard in stores.feed.shards():
                page = stores.feed.read(shard, positions.get(shard), limit=2_000)
                positions[shard] = page.position
                for change in page.changes:
                    if change.status is MessageStatus.SENT and change.event is None:
                        number += 1
                        where = (0, change.ref.campaign, change.batch, change.key)
                        heard += [InboundEvent(*where, event) for event in events_of(change, number)]
            arrivals.put(heard)
            time.sleep(0.05)


def caught_up(api: Api, campaign: str, rows: int) -> float:
    """Seconds until everything is recorded."""
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE_S:
        status = api.call("GET", f"/v1/campaigns/{campaign}/status")
        if status["counts"]["delivered"] + status["counts"]["bounced"] == rows and status["counts"]["bounced"] >= rows // 20:
            return time.monotonic() - started
        time.sleep(0.5)
    raise SystemExit(f"what came back is not recorded: {status}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=100_000)
    rows = parser.parse_args().recipients
    with smtp_sink() as port, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with server(directory, port) as api:
            order(api, directory, rows)  # as a server that has been running
            before = [order(api, directory, rows), order(api, directory, rows)]
            context = multiprocessing.get_context("spawn")
            begin, done = context.Event(), context.Event()
            receiver = context.Process(target=answer, args=(directory / "served", begin, done))
            receiver.start()
            begin.wait()
            during = order(api, directory, rows)
            campaign = api.call("GET", "/v1/campaigns?limit=1")["items"][0]["id"]
            late = caught_up(api, campaign, rows)
            done.set()
            receiver.join()
    reference = sum(before) / 2
    print(f"{'nothing comes back':28}{reference:9,.0f} messages/s ({before[0]:,.0f} and {before[1]:,.0f})")
    print(f"{'everything comes back':28}{during:9,.0f} messages/s, ratio {during / reference:.2f}")
    print(f"{'all of it recorded':28}{late:9,.1f} s later: {1.35 * rows / (rows / during + late):,.0f} events/s in all")


if __name__ == "__main__":
    main()
