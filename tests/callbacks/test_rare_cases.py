"""What a kill, a flood, an odd clock or a late record must not do to callbacks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.callbacks import endpoint_queues, endpoint_worker
from postroom.callbacks.endpoint_worker import MAX_PER_ENDPOINT
from postroom.clock import Instant
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.callback import CallbackDelivery, DeliveryStatus
from postroom.model.event import Event, EventKind
from postroom.model.message import Message, MessageStatus, Settlement
from postroom.platform.ports.messages import ReportedEvent
from tests.callbacks.kit import CallbackSetup, Reply, unreachable
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

K = EventKind


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[CallbackSetup]:
    with bench(tmp_path) as made:
        yield CallbackSetup(made)


def told(setup: CallbackSetup) -> list[dict[str, Any]]:
    page = setup.deliveries.list("default", "hook", limit=1_000)
    return [json.loads(each.body) for each in reversed(page.items)]


def clicks(messages: Sequence[Message], at: Instant, text: str) -> list[ReportedEvent]:
    """One of each, with as much in it as an event may hold."""
    return [
        ReportedEvent(
            each.batch, each.key, Event(kind=K.CLICKED, attempt=1, at=at, id="c", source="tracking", detail=text, url=text * 2)
        )
        for each in messages
    ]


def test_what_people_do_with_an_older_message_is_told(setup: CallbackSetup) -> None:
    campaign = setup.made.campaign(people=1)
    (message,) = setup.post.send_all(campaign)
    setup.made.clock.advance(10)
    setup.endpoint()
    setup.made.clock.advance(10)
    setup.post.hear(setup.post.arrival(campaign, message, K.OPENED))
    setup.follow()
    assert [body["type"] for body in told(setup)] == ["message.opened"]


def test_that_it_was_sent_is_told_even_where_the_report_came_first(setup: CallbackSetup) -> None:
    setup.endpoint()
    campaign, messages, now = setup.made.campaign(people=1), setup.made.messages, setup.made.clock.now()
    (message,) = messages.list(campaign.ref).messages
    opened = messages.open(campaign.ref, message.batch, "w", now, lease_ms=10_000)
    assert opened is not None
    setup.post.hear(setup.post.arrival(campaign, message, K.DELIVERED))
    sent = Settlement(message.key, MessageStatus.SENT, 1, now, None, 250, "2.0.0 ok")
    messages.record(campaign.ref, message.batch, opened.fence, [sent], [], now, lease_ms=10_000)
    setup.follow()
    assert Counter(body["type"] for body in told(setup)) == {"message.queued": 1, "message.sent": 1, "message.delivered": 1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_batches_that_a_kill_left_half_told_are_the_same_when_more_has_happened(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), CallbackSetup(made)
            sound.endpoint(batch=True)
            campaign = made.campaign(people=3)
            one, *_ = sound.post.send_all(campaign)
            made.clock.advance(100)
            victim = CallbackSetup(made, faults)
            try:
                while victim.consumer.once():
                    pass
            except Killed:
                sound.post.hear(sound.post.arrival(campaign, one, K.BOUNCED))
                sound.follow()
            events = [(each["data"]["message_id"], each["type"]) for body in told(sound) for each in body["data"]["events"]]
            assert len(events) == len(set(events)), "nothing stands in two batches"
            assert Counter(kind for _, kind in events)["message.sent"] == 3
        if len(faults.calls) < number:
            return
        number += 1


def test_events_that_do_not_fit_one_record_make_several(setup: CallbackSetup) -> None:
    setup.endpoint(batch=True, kinds=frozenset({K.CLICKED}))
    campaign = setup.made.campaign(people=100)
    sent = setup.post.send_all(campaign)
    setup.made.messages.record_events(campaign.ref, clicks(sent, setup.made.clock.now(), '"\\é' * 80), setup.made.clock.now())
    setup.follow()
    sizes = [len(body["data"]["events"]) for body in told(setup)]
    assert sum(sizes) == len(sent)
    assert len(sizes) > 1


@pytest.mark.parametrize("at", [253_402_300_800_000, 2**60])
def test_a_reporter_s_clock_may_say_anything(setup: CallbackSetup, at: int) -> None:
    setup.endpoint(kinds=frozenset({K.CLICKED}))
    campaign = setup.made.campaign(people=1)
    setup.made.messages.record_events(
        campaign.ref, clicks(setup.post.send_all(campaign), Instant(at), "x"), setup.made.clock.now()
    )
    setup.follow()
    assert [body["timestamp"][:4] for body in told(setup)] == ["9999"]


def test_a_shard_that_cannot_be_read_stops_no_other(setup: CallbackSetup) -> None:
    setup.endpoint()
    broken, sound = setup.made.campaign(people=1), setup.made.campaign(people=2)
    with setup.made.ledgers.get(broken.ref).write() as db:
        db.execute("UPDATE feed SET batch = 0, changes = ?", ('[["00",3,1,0,null,0,"","",["x","nothing",0]]]',))
    setup.follow()
    assert {body["data"]["campaign_id"] for body in told(setup)} == {sound.ref.campaign}


def owed(setup: CallbackSetup, endpoint: str, number: int, *, tenant: str = "default") -> None:
    """So many deliveries, due now."""
    now = setup.made.clock.now()
    setup.deliveries.add(
        [
            CallbackDelivery(id=f"{each:04}", endpoint=endpoint, tenant=tenant, body="{}", created_at=now, since=now, due=now)
            for each in range(number)
        ]
    )


def states(setup: CallbackSetup, endpoint: str = "hook") -> Counter[DeliveryStatus]:
    return Counter(each.status for each in setup.deliveries.list("default", endpoint, limit=1_000).items)


def running(setup: CallbackSetup, scene: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """The lanes, until the scene is over."""

    async def run() -> None:
        stop = asyncio.Event()
        endpoint_queues = asyncio.create_task(setup.lanes.run(stop))
        await scene(stop)
        stop.set()
        await endpoint_queues

    asyncio.run(asyncio.wait_for(run(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_what_a_dead_endpoint_is_owed_ends_with_its_day_however_much_it_is(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies["https://hook.example/"] = unreachable()
    owed(setup, "hook", 600)
    setup.tell_for(26 * 3_600, step=600)
    assert states(setup) == {DeliveryStatus.DEAD: 600}
    assert len(setup.web.asked) < 400, "most of it was not tried"


def test_one_that_is_switched_on_again_is_told_at_once_what_it_is_owed(setup: CallbackSetup) -> None:
    off = setup.callbacks.disable(setup.endpoint(), "by hand")
    owed(setup, "hook", 40)
    setup.tell_for(3_600, step=600)
    setup.callbacks.change(off, enabled=True)
    setup.tell()
    assert states(setup) == {DeliveryStatus.DELIVERED: 40}


def test_one_that_fails_keeps_what_was_in_its_hands_due(setup: CallbackSetup) -> None:
    """Three fail; the thirty behind them are not tried for nothing."""
    setup.endpoint()
    setup.web.replies["https://hook.example/"] = unreachable()
    owed(setup, "hook", 33)
    setup.tell()
    assert len(setup.web.asked) <= MAX_PER_ENDPOINT + 3
    setup.web.replies.clear()
    setup.tell_for(30, step=1)
    assert states(setup) == {DeliveryStatus.DELIVERED: 33}


def test_a_slow_answer_holds_up_only_itself(setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.endpoint()
    owed(setup, "hook", 300)
    slow, at_once = asyncio.Event(), setup.web.post

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        reply = await at_once(url, headers, body)
        if headers["webhook-id"].endswith("50"):
            await slow.wait()
        return reply

    monkeypatch.setattr(setup.web, "post", post)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(setup.web.asked) == 300)
        slow.set()

    running(setup, scene)
    assert states(setup) == {DeliveryStatus.DELIVERED: 300}


def test_many_that_do_not_answer_leave_a_place_for_each_other_one(setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_worker, "_CROWDED", 20)
    for number in range(30):
        setup.endpoint(f"dead-{number:02}")
        setup.web.held[f"https://dead-{number:02}.example/"] = asyncio.Event()
        owed(setup, f"dead-{number:02}", 40)
    setup.endpoint("sound")

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len({asked.url for asked in setup.web.asked}) == 30)
        under_way = len(setup.web.asked)
        owed(setup, "sound", 50)
        setup.made.clock.advance(2)
        await until(lambda: len(setup.web.of("https://sound.example/")) == 50)
        assert under_way == len(setup.web.asked) - 50 <= 20 + MAX_PER_ENDPOINT + 30
        for event in setup.web.held.values():
            event.set()

    running(setup, scene)


def test_a_tenant_whose_many_servers_are_all_slow_leaves_places_for_other_tenants(
    setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each campaign may have a callback of its own: so a tenant may have as many as it likes, and be first in every order."""
    monkeypatch.setattr(endpoint_queues, "MAX_REQUESTS", 20)
    monkeypatch.setattr(endpoint_queues, "MAX_PER_TENANT", 10)
    monkeypatch.setattr(endpoint_worker, "_CROWDED_TENANT", 0)
    for number in range(40):
        setup.endpoint(f"slow-{number:02}")
        setup.web.held[f"https://slow-{number:02}.example/"] = asyncio.Event()
        owed(setup, f"slow-{number:02}", 1)
    wishes = EndpointSettings(url="https://sound.example/", kinds=frozenset(K))
    setup.callbacks.create("other", wishes, id="sound", secret=b"s" * 32)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(setup.web.asked) == 10)
        owed(setup, "sound", 5, tenant="other")
        setup.made.clock.advance(2)
        await until(lambda: len(setup.web.of("https://sound.example/")) == 5)
        for event in setup.web.held.values():
            event.set()

    running(setup, scene)


def test_told_to_stop_it_does_not_first_make_all_that_waits(setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.endpoint()
    setup.web.held["https://hook.example/"] = asyncio.Event()
    owed(setup, "hook", 200)

    async def scene(stop: asyncio.Event) -> None:
        await until(lambda: len(setup.web.asked) == MAX_PER_ENDPOINT)
        stop.set()
        await asyncio.sleep(0)
        setup.web.held["https://hook.example/"].set()

    running(setup, scene)
    told = states(setup)[DeliveryStatus.DELIVERED]
    assert MAX_PER_ENDPOINT <= told <= 33
    again = CallbackSetup(setup.made)
    again.tell()
    assert states(again) == {DeliveryStatus.DELIVERED: 200}, "what it gave back is due"


def test_told_to_stop_it_does_not_wait_for_who_never_answers(setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_queues, "_FINISH_S", 0.01)
    setup.endpoint()
    setup.web.held["https://hook.example/"] = asyncio.Event()
    owed(setup, "hook", 3)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(setup.web.asked) == 3)

    running(setup, scene)
    again = CallbackSetup(setup.made)
    setup.made.clock.advance(60)
    again.tell()
    assert {asked.headers["webhook-id"] for asked in again.web.asked} == {"0000", "0001", "0002"}
