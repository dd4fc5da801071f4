"""What a kill, a flood, an odd clock or a late record must not do to callbacks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.model.event import Event, EventKind
from postroom.model.message import Message, MessageState, Settlement
from postroom.platform.ports.messages import Reported
from tests.events.callbacks_kit import Lines
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

K = EventKind


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    with bench(tmp_path) as made:
        yield Lines(made)


def told(lines: Lines) -> list[dict[str, Any]]:
    page = lines.deliveries.list("default", "hook", limit=1_000)
    return [json.loads(each.body) for each in reversed(page.deliveries)]


def clicks(messages: Sequence[Message], at: Instant, text: str) -> list[Reported]:
    """One of each, with as much in it as an event may hold."""
    return [
        Reported(
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
    (message,) = messages.list(campaign.home).messages
    opened = messages.open(campaign.home, message.batch, "w", now, lease_ms=10_000)
    assert opened is not None
    lines.post.hear(lines.post.arrival(campaign, message, K.DELIVERED))
    sent = Settlement(message.key, MessageState.SENT, 1, now, None, 250, "2.0.0 ok")
    messages.record(campaign.home, message.batch, opened.fence, [sent], [], now, lease_ms=10_000)
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
    lines.made.messages.report(campaign.home, clicks(sent, lines.made.clock.now(), '"\\é' * 80), lines.made.clock.now())
    lines.follow()
    sizes = [len(body["data"]["events"]) for body in told(lines)]
    assert sum(sizes) == len(sent)
    assert len(sizes) > 1


@pytest.mark.parametrize("at", [253_402_300_800_000, 2**60])
def test_a_reporter_s_clock_may_say_anything(lines: Lines, at: int) -> None:
    lines.endpoint(kinds=frozenset({K.CLICKED}))
    campaign = lines.made.campaign(people=1)
    lines.made.messages.report(campaign.home, clicks(lines.post.send_all(campaign), Instant(at), "x"), lines.made.clock.now())
    lines.follow()
    assert [body["timestamp"][:4] for body in told(lines)] == ["9999"]


def test_a_shard_that_cannot_be_read_stops_no_other(lines: Lines) -> None:
    lines.endpoint()
    broken, sound = lines.made.campaign(people=1), lines.made.campaign(people=2)
    with lines.made.ledgers.get(broken.home).write() as db:
        db.execute("UPDATE feed SET batch = 0, changes = ?", ('[["00",3,1,0,null,0,"","",["x","nothing",0]]]',))
    lines.follow()
    assert {body["data"]["campaign_id"] for body in told(lines)} == {sound.home.campaign}
