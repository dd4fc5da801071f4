"""More campaigns than a worker works on at once: each has its turn, and the end of a turn costs nobody an answer."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroom.entrypoints.handling import Handling
from postroom.entrypoints.importing import importer
from postroom.entrypoints.process import Stop
from postroom.entrypoints.sending import Sending
from postroom.ledger import notes
from postroom.model.campaign import CampaignState, Home, Policies
from postroom.services.campaigns import Draft
from postroom.settings import Settings
from postroom.wiring import DEFAULT_PROVIDER, Postroom, open_postroom
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import SmtpSink

PEOPLE = 40


@contextmanager
def office(root: Path, seconds: float) -> Iterator[tuple[Postroom, SmtpSink]]:
    """A relay that takes its time to answer each message, and an installation that drains for less than that."""
    with SmtpSink([Rule("dot", "late", seconds=seconds)]) as sink:
        ours = {"DATA": str(root / "data"), "MAIL": f"smtp://127.0.0.1:{sink.port}?tls=none&connections=4", "DRAIN": "0.2"}
        with open_postroom(Settings.load({f"POSTROOM_{name}": value for name, value in ours.items()}, None, {})) as opened:
            yield opened, sink


def sending(postroom: Postroom, name: str) -> Home:
    """A campaign that is to be sent."""
    draft = Draft(
        name=name,
        html="<p>Hello {{ name }}</p>",
        subject="Hello",
        from_="news@shop.example",
        variables={},
        provider=DEFAULT_PROVIDER,
        policies=Policies(),
    )
    rows = "email,name\n" + "".join(f"{name}{n}@example.com,N {n}\n" for n in range(PEOPLE))
    home = postroom.campaigns.create("default", draft, io.BytesIO(rows.encode()), "people.csv").home
    Handling(postroom, notes.IMPORT, importer(postroom, threading.Event()), owner="test", group="test").once()
    postroom.scheduler.look(home)
    assert postroom.records.get(home).state is CampaignState.SENDING
    return home


def work(postroom: Postroom, enough: Callable[[], bool], *, turn_s: float) -> None:
    """One worker, one campaign at a time, until then."""

    async def run() -> None:
        stop = Stop()
        working = asyncio.create_task(Sending(postroom, only=None, at_once=1, turn_s=turn_s).run(stop, lambda: False))
        async with asyncio.timeout(40):
            while not enough() and not working.done():
                await asyncio.sleep(0.02)
        stop.set()
        await working

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 0.6], ids=["quick relay", "relay slower than the drain"])
def test_the_end_of_a_turn_leaves_nobody_in_doubt(tmp_path: Path, seconds: float) -> None:
    with office(tmp_path, seconds) as (postroom, sink):
        homes = [sending(postroom, name) for name in ("a", "b", "c")]

        def all_moved() -> bool:
            return all(postroom.messages.counts(home).sent + postroom.messages.counts(home).unknown > 3 for home in homes)

        def over() -> bool:
            return all(postroom.records.get(home).state is CampaignState.COMPLETED for home in homes)

        work(postroom, over if not seconds else all_moved, turn_s=0.3)
        counts = [postroom.messages.counts(home) for home in homes]
        in_flight_at_the_end = 4 if seconds else 0
        assert sum(each.unknown for each in counts) <= in_flight_at_the_end, counts
        assert len(sink.accepted) <= sum(each.sent + each.unknown for each in counts)
