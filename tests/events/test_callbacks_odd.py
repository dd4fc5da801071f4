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
from tests.events.callbacks_kit import Lines, Reply, unreachable
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

K = EventKind


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    with bench(tmp_path) as made:
        yield Lines(made)


def told(lines: Lines) -> list[dict[str, Any]]:
    page = lines.deliveries.list("default", "hook", limit=1_000)
    return [json.loads(each.body) for each in reversed(page.items)]


def clicks(messages: Sequence[Message], at: Instant, text: str) -> list[ReportedEvent]:
    """One of each, with as much in it as an event may hold."""
    return [
        ReportedEvent(
            each.batch, each.key, Event(kind=K.CLICKED, attempt=1, at=at, id="c", source="tracking", detail=text, url=text * 2)
        )
        for each in messages
    ]


def test_what_people_do_with_an_older_message_is_told(lines: Lines) -> None:
    campaign = lines.made.campaign(people=1)
    (message,) = lines.post.send_all(campaign)
    lines.made.clock.advance(10)
    lines.endpoint()
    lines.made.clock.advance(10)
    lines.post.hear(lines.post.arrival(campaign, message, K.OPENED))
    lines.follow()
    assert [body["type"] for body in told(lines)] == ["message.opened"]


def test_that_it_was_sent_is_told_even_where_the_report_came_first(lines: Lines) -> None:
    lines.endpoint()
    campaign, messages, now = lines.made.campaign(people=1), lines.made.messages, lines.made.clock.now()
    (message,) = messages.list(campaign.ref).messages
    opened = messages.open(campaign.ref, message.batch, "w", now, lease_ms=10_000)
    assert opened is not None
    lines.post.hear(lines.post.arrival(campaign, message, K.DELIVERED))
    sent = Settlement(message.key, MessageStatus.SENT, 1, now, None, 250, "2.0.0 ok")
    messages.record(campaign.ref, message.batch, opened.fence, [sent], [], now, lease_ms=10_000)
    lines.follow()
    assert Counter(body["type"] for body in told(lines)) == {"message.queued": 1, "message.sent": 1, "message.delivered": 1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_batches_that_a_kill_left_half_told_are_the_same_when_more_has_happened(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), Lines(made)
            sound.endpoint(batch=True)
            campaign = made.campaign(people=3)
            one, *_ = sound.post.send_all(campaign)
            made.clock.advance(100)
            victim = Lines(made, faults)
            try:
                while victim.follower.once():
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


def test_events_that_do_not_fit_one_record_make_several(lines: Lines) -> None:
    lines.endpoint(batch=True, kinds=frozenset({K.CLICKED}))
    campaign = lines.made.campaign(people=100)
    sent = lines.post.send_all(campaign)
    lines.made.messages.record_events(campaign.ref, clicks(sent, lines.made.clock.now(), '"\\é' * 80), lines.made.clock.now())
    lines.follow()
    sizes = [len(body["data"]["events"]) for body in told(lines)]
    assert sum(sizes) == len(sent)
    assert len(sizes) > 1


@pytest.mark.parametrize("at", [253_402_300_800_000, 2**60])
def test_a_reporter_s_clock_may_say_anything(lines: Lines, at: int) -> None:
    lines.endpoint(kinds=frozenset({K.CLICKED}))
    campaign = lines.made.campaign(people=1)
    lines.made.messages.record_events(
        campaign.ref, clicks(lines.post.send_all(campaign), Instant(at), "x"), lines.made.clock.now()
    )
    lines.follow()
    assert [body["timestamp"][:4] for body in told(lines)] == ["9999"]


def test_a_shard_that_cannot_be_read_stops_no_other(lines: Lines) -> None:
    lines.endpoint()
    broken, sound = lines.made.campaign(people=1), lines.made.campaign(people=2)
    with lines.made.ledgers.get(broken.ref).write() as db:
        db.execute("UPDATE feed SET batch = 0, changes = ?", ('[["00",3,1,0,null,0,"","",["x","nothing",0]]]',))
    lines.follow()
    assert {body["data"]["campaign_id"] for body in told(lines)} == {sound.ref.campaign}


def owed(lines: Lines, endpoint: str, number: int, *, tenant: str = "default") -> None:
    """So many deliveries, due now."""
    now = lines.made.clock.now()
    lines.deliveries.add(
        [
            CallbackDelivery(id=f"{each:04}", endpoint=endpoint, tenant=tenant, body="{}", created_at=now, since=now, due=now)
            for each in range(number)
        ]
    )


def states(lines: Lines, endpoint: str = "hook") -> Counter[DeliveryStatus]:
    return Counter(each.status for each in lines.deliveries.list("default", endpoint, limit=1_000).items)


def running(lines: Lines, scene: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """The lanes, until the scene is over."""

    async def run() -> None:
        stop = asyncio.Event()
        endpoint_queues = asyncio.create_task(lines.lanes.run(stop))
        await scene(stop)
        stop.set()
        await endpoint_queues

    asyncio.run(asyncio.wait_for(run(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_what_a_dead_endpoint_is_owed_ends_with_its_day_however_much_it_is(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies["https://hook.example/"] = unreachable()
    owed(lines, "hook", 600)
    lines.tell_for(26 * 3_600, step=600)
    assert states(lines) == {DeliveryStatus.DEAD: 600}
    assert len(lines.web.asked) < 400, "most of it was not tried"


def test_one_that_is_switched_on_again_is_told_at_once_what_it_is_owed(lines: Lines) -> None:
    off = lines.callbacks.disable(lines.endpoint(), "by hand")
    owed(lines, "hook", 40)
    lines.tell_for(3_600, step=600)
    lines.callbacks.change(off, enabled=True)
    lines.tell()
    assert states(lines) == {DeliveryStatus.DELIVERED: 40}


def test_one_that_fails_keeps_what_was_in_its_hands_due(lines: Lines) -> None:
    """Three fail; the thirty behind them are not tried for nothing."""
    lines.endpoint()
    lines.web.replies["https://hook.example/"] = unreachable()
    owed(lines, "hook", 33)
    lines.tell()
    assert len(lines.web.asked) <= MAX_PER_ENDPOINT + 3
    lines.web.replies.clear()
    lines.tell_for(30, step=1)
    assert states(lines) == {DeliveryStatus.DELIVERED: 33}


def test_a_slow_answer_holds_up_only_itself(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    lines.endpoint()
    owed(lines, "hook", 300)
    slow, at_once = asyncio.Event(), lines.web.post

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        reply = await at_once(url, headers, body)
        if headers["webhook-id"].endswith("50"):
            await slow.wait()
        return reply

    monkeypatch.setattr(lines.web, "post", post)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(lines.web.asked) == 300)
        slow.set()

    running(lines, scene)
    assert states(lines) == {DeliveryStatus.DELIVERED: 300}


def test_many_that_do_not_answer_leave_a_place_for_each_other_one(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_worker, "_CROWDED", 20)
    for number in range(30):
        lines.endpoint(f"dead-{number:02}")
        lines.web.held[f"https://dead-{number:02}.example/"] = asyncio.Event()
        owed(lines, f"dead-{number:02}", 40)
    lines.endpoint("sound")

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len({asked.url for asked in lines.web.asked}) == 30)
        under_way = len(lines.web.asked)
        owed(lines, "sound", 50)
        lines.made.clock.advance(2)
        await until(lambda: len(lines.web.of("https://sound.example/")) == 50)
        assert under_way == len(lines.web.asked) - 50 <= 20 + MAX_PER_ENDPOINT + 30
        for event in lines.web.held.values():
            event.set()

    running(lines, scene)


def test_a_tenant_whose_many_servers_are_all_slow_leaves_places_for_other_tenants(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each campaign may have a callback of its own: so a tenant may have as many as it likes, and be first in every order."""
    monkeypatch.setattr(endpoint_queues, "MAX_REQUESTS", 20)
    monkeypatch.setattr(endpoint_queues, "MAX_PER_TENANT", 10)
    monkeypatch.setattr(endpoint_worker, "_CROWDED_TENANT", 0)
    for number in range(40):
        lines.endpoint(f"slow-{number:02}")
        lines.web.held[f"https://slow-{number:02}.example/"] = asyncio.Event()
        owed(lines, f"slow-{number:02}", 1)
    wishes = EndpointSettings(url="https://sound.example/", kinds=frozenset(K))
    lines.callbacks.create("other", wishes, id="sound", secret=b"s" * 32)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(lines.web.asked) == 10)
        owed(lines, "sound", 5, tenant="other")
        lines.made.clock.advance(2)
        await until(lambda: len(lines.web.of("https://sound.example/")) == 5)
        for event in lines.web.held.values():
            event.set()

    running(lines, scene)


def test_told_to_stop_it_does_not_first_make_all_that_waits(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    lines.endpoint()
    lines.web.held["https://hook.example/"] = asyncio.Event()
    owed(lines, "hook", 200)

    async def scene(stop: asyncio.Event) -> None:
        await until(lambda: len(lines.web.asked) == MAX_PER_ENDPOINT)
        stop.set()
        await asyncio.sleep(0)
        lines.web.held["https://hook.example/"].set()

    running(lines, scene)
    told = states(lines)[DeliveryStatus.DELIVERED]
    assert MAX_PER_ENDPOINT <= told <= 33
    again = Lines(lines.made)
    again.tell()
    assert states(again) == {DeliveryStatus.DELIVERED: 200}, "what it gave back is due"


def test_told_to_stop_it_does_not_wait_for_who_never_answers(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_queues, "_FINISH_S", 0.01)
    lines.endpoint()
    lines.web.held["https://hook.example/"] = asyncio.Event()
    owed(lines, "hook", 3)

    async def scene(_: asyncio.Event) -> None:
        await until(lambda: len(lines.web.asked) == 3)

    running(lines, scene)
    again = Lines(lines.made)
    lines.made.clock.advance(60)
    again.tell()
    assert {asked.headers["webhook-id"] for asked in again.web.asked} == {"0000", "0001", "0002"}
