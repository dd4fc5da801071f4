"""Campaigns at work: each has its turn, the end of a turn costs nobody an answer, and a provider that is changed is used as it is."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from postroom.entrypoints.server.process import Stop
from postroom.entrypoints.server.send_loop import SendLoop
from postroom.entrypoints.server.worker import WorkflowLoop, import_handler
from postroom.ledger import scheduler_messages
from postroom.ledger.providers import ProviderSpec
from postroom.model.campaign import CampaignRef, CampaignSpec, CampaignStatus, Content
from postroom.model.provider import DEFAULT_PROVIDER
from postroom.services.campaign_creation import CampaignParts
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink

PEOPLE = 40


@contextmanager
def office(root: Path, seconds: float, **options: Any) -> Iterator[tuple[Container, SmtpSink]]:
    """A relay that takes its time to answer each message, and an installation that drains for less than that."""
    with SmtpSink([Rule("dot", "late", seconds=seconds)], Options(**options)) as sink:
        ours = {"DATA": str(root / "data"), "MAIL": f"smtp://127.0.0.1:{sink.port}?tls=none&connections=4", "DRAIN": "0.2"}
        with open_app(Settings.load({f"POSTROOM_{name}": value for name, value in ours.items()}, None, {})) as opened:
            yield opened, sink


def sending(postroom: Container, name: str, provider: str = DEFAULT_PROVIDER) -> CampaignRef:
    """A campaign that is to be sent."""
    spec = CampaignSpec(name=name, content=Content(from_="news@shop.example", subject="Hello"), provider=provider)
    parts = CampaignParts(html="<p>Hello {{ name }}</p>")
    rows = "email,name\n" + "".join(f"{name}{n}@example.com,N {n}\n" for n in range(PEOPLE))
    ref = postroom.campaign_creator.create("default", spec, parts, io.BytesIO(rows.encode()), filename="people.csv").ref
    WorkflowLoop(
        postroom, scheduler_messages.IMPORT, import_handler(postroom, threading.Event()), owner="test", group="test"
    ).once()
    postroom.scheduler.look(ref)
    assert postroom.records.get(ref).status is CampaignStatus.SENDING
    return ref


def work(postroom: Container, enough: Callable[[], bool], *, turn_s: float) -> None:
    """One worker, one campaign at a time, until then."""

    async def run() -> None:
        stop = Stop()
        working = asyncio.create_task(SendLoop(postroom, only=None, at_once=1, turn_s=turn_s).run(stop, lambda: False))
        async with asyncio.timeout(40):
            while not enough() and not working.done():
                await asyncio.sleep(0.02)
        stop.set()
        await working

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 0.6], ids=["quick relay", "relay slower than the drain"])
def test_the_end_of_a_turn_leaves_nobody_in_doubt(tmp_path: Path, seconds: float) -> None:
    with office(tmp_path, seconds) as (postroom, sink):
        refs = [sending(postroom, name) for name in ("a", "b", "c")]

        def all_moved() -> bool:
            return all(postroom.messages.counts(ref).sent + postroom.messages.counts(ref).unknown > 3 for ref in refs)

        def over() -> bool:
            return all(postroom.records.get(ref).status is CampaignStatus.COMPLETED for ref in refs)

        work(postroom, over if not seconds else all_moved, turn_s=0.3)
        counts = [postroom.messages.counts(ref) for ref in refs]
        in_flight_at_the_end = 4 if seconds else 0
        assert sum(each.unknown for each in counts) <= in_flight_at_the_end, counts
        assert len(sink.accepted) <= sum(each.sent + each.unknown for each in counts)


def test_a_password_that_is_put_right_is_used_at_once(tmp_path: Path) -> None:
    with office(tmp_path, 0, users={"news": "right"}) as (postroom, sink):
        url = f"smtp://news:{{}}@127.0.0.1:{sink.port}?tls=none"
        relay = postroom.providers.create("default", "relay", ProviderSpec(url.format("wrong"), trusted=True))
        ref = sending(postroom, "a", "relay")
        changed: list[object] = []

        def put_right() -> bool:
            if not changed and sink.connections:
                changed.append(postroom.providers.change(relay, ProviderSpec(url.format("right"), trusted=True)))
            return postroom.records.get(ref).status is CampaignStatus.COMPLETED

        work(postroom, put_right, turn_s=60)
        assert len(sink.accepted) == PEOPLE


def test_a_campaign_whose_provider_is_deleted_is_paused_with_the_reason(tmp_path: Path) -> None:
    with office(tmp_path, 0.3) as (postroom, sink):
        url = f"smtp://127.0.0.1:{sink.port}?tls=none&connections=2"
        relay = postroom.providers.create("default", "relay", ProviderSpec(url, trusted=True))
        ref = sending(postroom, "a", "relay")

        def delete() -> bool:
            if sink.accepted and postroom.providers.list("default")[0].name == "relay":
                postroom.providers.delete(relay)
            return postroom.records.get(ref).status is CampaignStatus.PAUSED

        work(postroom, delete, turn_s=60)
        campaign = postroom.records.get(ref)
        assert (campaign.status, campaign.reason) == (CampaignStatus.PAUSED, "there is no provider relay")
