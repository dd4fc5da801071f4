"""What a worker works on: what one campaign meets holds up no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from postroom.entrypoints.server.process import Stop
from postroom.entrypoints.server.send_loop import SendLoop
from postroom.entrypoints.server.timers import MaintenanceLoop
from postroom.errors import Corrupt, Invalid
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.pipeline.sender.context import StopSignal
from postroom.pipeline.sender.worker import Sender
from postroom.platform.ports.tables import ItemKey, Put
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.fakes.campaigns import campaign_record
from tests.flow.campaign_kit import until


class ScriptedSender:
    """Does to each campaign what the test says."""

    def __init__(self, postroom: Container, work: Callable[[CampaignRef], None]) -> None:
        self._postroom = postroom
        self._work = work

    async def send(self, ref: CampaignRef, leave: StopSignal, on_trouble: Callable[[str], None]) -> None:
        self._postroom.records.get(ref)  # as the sender does
        self._work(ref)


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings.load({"POSTROOM_DATA": str(tmp_path / "data")}, None, {})) as opened:
        yield opened


def campaign(postroom: Container, state: CampaignStatus = CampaignStatus.SENDING) -> CampaignRef:
    """One that is to be sent."""
    ref = postroom.records.new_ref("default")
    made = campaign_record(ref, state, postroom.clock.now(), start_when_ready=True)
    postroom.records.create(made)
    if state is CampaignStatus.SENDING:
        scheduler_messages.start_send(postroom.workflows, ref)
    return ref


def damage(postroom: Container, ref: CampaignRef) -> None:
    """Its record cannot be read any more."""
    postroom.tables.write([Put(ItemKey(f"{ref.tenant}#campaigns", ref.campaign), {"status": "odd"})])
    with pytest.raises(Corrupt):
        postroom.records.get(ref)


def worked_on(
    postroom: Container,
    enough: Callable[[set[CampaignRef]], bool],
    *,
    fails: Callable[[CampaignRef], bool],
    error: type[Exception] = Invalid,
) -> set[CampaignRef]:
    """What a worker worked on until then."""
    seen: set[CampaignRef] = set()
    stop = Stop()

    def work(ref: CampaignRef) -> None:
        if fails(ref):
            raise error("it cannot be sent")
        seen.add(ref)

    async def run() -> None:
        sender = cast("Sender", ScriptedSender(postroom, work))
        sending = asyncio.create_task(SendLoop(postroom.but(sender=sender), only=None).run(stop, lambda: False))
        async with asyncio.timeout(10):
            while not enough(seen) and not sending.done():
                await asyncio.sleep(0.01)
        stop.set()
        await sending

    asyncio.run(run())
    return seen


def test_a_campaign_whose_record_cannot_be_read_holds_up_no_other(postroom: Container) -> None:
    bad, good = campaign(postroom), campaign(postroom)
    damage(postroom, bad)
    assert worked_on(postroom, lambda seen: good in seen, fails=lambda _ref: False) == {good}


@pytest.mark.parametrize(("error", "reason"), [(Invalid, "it cannot be sent"), (KeyError, "an error in Postroom, KeyError: ")])
def test_a_campaign_that_cannot_go_on_is_paused_with_the_reason(postroom: Container, error: type[Exception], reason: str) -> None:
    """Also where the mistake is ours: the mail of everybody else goes on."""
    bad, good = campaign(postroom), campaign(postroom)

    def both(seen: set[CampaignRef]) -> bool:
        return good in seen and postroom.records.get(bad).status is CampaignStatus.PAUSED

    assert worked_on(postroom, both, fails=lambda ref: ref == bad, error=error) == {good}
    assert (postroom.records.get(bad).reason or "").startswith(reason)
    assert bad not in [scheduler_messages.parse_ref(each.input) for each in postroom.workflows.running(scheduler_messages.SEND)]


def test_a_record_that_cannot_be_read_keeps_nobody_from_being_looked_after(postroom: Container) -> None:
    """Nothing waits for ever for a note that was lost: whatever is listed before it."""
    for _ in range(2):
        campaign(postroom, CampaignStatus.READY)
    bad, good = postroom.records.unfinished()
    damage(postroom, bad)
    stopped = threading.Event()
    maintenance = MaintenanceLoop(postroom, only=None, stopped=stopped)
    running = threading.Thread(target=maintenance.run)
    running.start()
    try:
        until(lambda: postroom.records.get(good).status is CampaignStatus.SENDING, "the other to be looked at", 5)
    finally:
        stopped.set()
        running.join()
