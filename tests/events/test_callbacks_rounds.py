"""Where processes come and go, every request is made all the same, and one lane is never two's at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.callbacks.dispatcher import QUEUE, parse_wakeup
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.model.callback import CallbackDelivery, DeliveryStatus
from tests.events.callbacks_kit import Lines, Reply
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

URL = "https://hook.example/"
HOOK = EndpointRef("default", "hook")


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    with bench(tmp_path) as made:
        yield Lines(made)


def order(lines: Lines, *names: str, endpoint: str = "hook") -> None:
    """Deliveries that are due now."""
    now = lines.made.clock.now()
    lines.deliveries.add(
        [
            CallbackDelivery(
                id=name, endpoint=endpoint, tenant="default", body='{"type":"x"}', created_at=now, since=now, due=now
            )
            for name in names
        ]
    )


def go(lines: Lines, *lanes: EndpointRef, seconds: float = 30) -> list[EndpointRef]:
    return asyncio.run(lines.rounds.run(lanes or [HOOK], seconds=seconds))


def woken(lines: Lines) -> list[EndpointRef]:
    """Whom the wakes name that can be had now; they are taken."""
    found = list[EndpointRef]()
    for item in lines.made.queues.receive(QUEUE, limit=10):
        found += parse_wakeup(item.body)
        lines.made.queues.delete(QUEUE, item.receipt)
    return found


def stands(lines: Lines, name: str) -> CallbackDelivery:
    return lines.deliveries.get("default", "hook", name)


def test_a_wake_has_everything_told_that_is_due(lines: Lines) -> None:
    lines.endpoint()
    names = [f"d{number:03}" for number in range(100)]
    order(lines, *names)
    assert go(lines) == []
    assert sorted(asked.headers["webhook-id"] for asked in lines.web.of(URL)) == names
    assert woken(lines) == []


def test_what_is_due_within_a_minute_has_one_wake_on_its_way_whoever_looks(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(500, "down")
    order(lines, "a")
    for _ in range(4):
        go(lines)
    assert len(lines.web.of(URL)) == 1
    lines.made.clock.advance(10)
    assert woken(lines) == [HOOK]
    lines.web.replies[URL] = Reply()
    go(lines)
    assert stands(lines, "a").status is DeliveryStatus.DELIVERED
    lines.made.clock.advance(900)
    assert woken(lines) == []


def test_a_lane_in_another_s_hands_is_left_to_them_and_they_look_once_more(lines: Lines) -> None:
    """The last delivery comes when the one who has the turn has seen nothing more: nobody else takes it, so they must."""
    lines.endpoint()
    order(lines, "a")
    other = Lines(lines.made)
    other.web = lines.web
    seen = 0
    end = lines.rounds._release

    def late(*args: object) -> None:
        nonlocal seen
        if not seen:
            seen += 1
            order(lines, "b")
            go(other)
            assert len(lines.web.of(URL)) == 1, "the other left it alone"
        end(*args)  # type: ignore[arg-type]  # of the same

    lines.rounds._release = late  # type: ignore[assignment,method-assign]  # the moment between two lines
    go(lines)
    assert stands(lines, "b").status is DeliveryStatus.DELIVERED


def test_a_server_that_fails_again_and_again_rests_whichever_process_comes_next(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(500, "down")
    order(lines, *(f"d{number:02}" for number in range(60)))
    go(lines)
    first = len(lines.web.of(URL))
    assert first < 60, "it stopped trying"
    for _ in range(5):
        fresh = Lines(lines.made)
        fresh.web = lines.web
        go(fresh)
    assert len(lines.web.of(URL)) == first, "nobody asks while it rests"
    lines.made.clock.advance(31)
    assert woken(lines) == [HOOK]
    fresh = Lines(lines.made)
    fresh.web = lines.web
    go(fresh)
    assert len(lines.web.of(URL)) == first + 1, "one alone, and then it rests again"


def test_one_that_does_not_answer_delays_no_other_and_is_taken_up_again(lines: Lines) -> None:
    lines.endpoint()
    lines.endpoint("quick")
    order(lines, *(f"s{number:02}" for number in range(40)))
    order(lines, "q", endpoint="quick")

    async def scene() -> None:
        lines.web.held[URL] = asyncio.Event()
        running = asyncio.create_task(lines.rounds.run([HOOK, EndpointRef("default", "quick")], seconds=0.3))
        while not lines.web.of("https://quick.example/"):
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        lines.made.clock.advance(1)
        lines.web.held.pop(URL).set()
        assert await running == []

    asyncio.run(scene())
    assert len(lines.web.of(URL)) == 16
    assert woken(lines) == [HOOK]
    go(lines)
    assert sorted({asked.headers["webhook-id"] for asked in lines.web.of(URL)}) == [f"s{number:02}" for number in range(40)]
    assert len(lines.web.of(URL)) == 40


def test_the_look_at_all_lanes_wakes_those_that_are_owed_something(lines: Lines) -> None:
    lines.endpoint()
    lines.endpoint("other")
    order(lines, "a")
    lines.made.clock.advance(3)
    looked = lines.rounds.wake_all()
    assert (looked.due, looked.oldest_ms, woken(lines)) == (1, 3_000, [HOOK])
    go(lines)
    assert lines.rounds.wake_all() == (0, 0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_nothing(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), Lines(made)
            sound.endpoint()
            order(sound, "a", "b")
            victim = Lines(made, faults)
            victim.web = sound.web
            killed = False
            try:
                go(victim)
            except (Killed, BaseExceptionGroup):
                killed = True
            made.clock.advance(120)
            sound.rounds.wake_all()
            go(sound, *woken(sound))
            assert {stands(sound, name).status for name in "ab"} == {DeliveryStatus.DELIVERED}
            assert len(sound.web.of(URL)) <= 4, "under the same ids, for the one kill"
        if not killed:
            assert number > 5
            return
        number += 1
