"""Where processes come and go, every request is made all the same, and one lane is never two's at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.callbacks.dispatcher import QUEUE, parse_wakeup
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.model.callback import CallbackDelivery, DeliveryStatus
from tests.callbacks.kit import CallbackSetup, Reply
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

URL = "https://hook.example/"
HOOK = EndpointRef("default", "hook")


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[CallbackSetup]:
    with bench(tmp_path) as made:
        yield CallbackSetup(made)


def order(setup: CallbackSetup, *names: str, endpoint: str = "hook") -> None:
    """Deliveries that are due now."""
    now = setup.made.clock.now()
    setup.deliveries.add(
        [
            CallbackDelivery(
                id=name, endpoint=endpoint, tenant="default", body='{"type":"x"}', created_at=now, since=now, due=now
            )
            for name in names
        ]
    )


def go(setup: CallbackSetup, *lanes: EndpointRef, seconds: float = 30) -> list[EndpointRef]:
    return asyncio.run(setup.dispatcher.run(lanes or [HOOK], seconds=seconds))


def woken(setup: CallbackSetup) -> list[EndpointRef]:
    """Whom the wakes name that can be had now; they are taken."""
    found = list[EndpointRef]()
    for item in setup.made.queues.receive(QUEUE, limit=10):
        found += parse_wakeup(item.body)
        setup.made.queues.delete(QUEUE, item.receipt)
    return found


def stands(setup: CallbackSetup, name: str) -> CallbackDelivery:
    return setup.deliveries.get("default", "hook", name)


def test_a_wake_has_everything_told_that_is_due(setup: CallbackSetup) -> None:
    setup.endpoint()
    names = [f"d{number:03}" for number in range(100)]
    order(setup, *names)
    assert go(setup) == []
    assert sorted(asked.headers["webhook-id"] for asked in setup.web.of(URL)) == names
    assert woken(setup) == []


def test_what_is_due_within_a_minute_has_one_wake_on_its_way_whoever_looks(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(500, "down")
    order(setup, "a")
    for _ in range(4):
        go(setup)
    assert len(setup.web.of(URL)) == 1
    setup.made.clock.advance(10)
    assert woken(setup) == [HOOK]
    setup.web.replies[URL] = Reply()
    go(setup)
    assert stands(setup, "a").status is DeliveryStatus.DELIVERED
    setup.made.clock.advance(900)
    assert woken(setup) == []


def test_a_lane_in_another_s_hands_is_left_to_them_and_they_look_once_more(setup: CallbackSetup) -> None:
    """The last delivery comes when the one who has the turn has seen nothing more: nobody else takes it, so they must."""
    setup.endpoint()
    order(setup, "a")
    other = CallbackSetup(setup.made)
    other.web = setup.web
    seen = 0
    end = setup.dispatcher._release

    def late(*args: object) -> None:
        nonlocal seen
        if not seen:
            seen += 1
            order(setup, "b")
            go(other)
            assert len(setup.web.of(URL)) == 1, "the other left it alone"
        end(*args)  # type: ignore[arg-type]  # of the same

    setup.dispatcher._release = late  # type: ignore[assignment,method-assign]  # the moment between two lines
    go(setup)
    assert stands(setup, "b").status is DeliveryStatus.DELIVERED


def test_a_server_that_fails_again_and_again_rests_whichever_process_comes_next(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(500, "down")
    order(setup, *(f"d{number:02}" for number in range(60)))
    go(setup)
    first = len(setup.web.of(URL))
    assert first < 60, "it stopped trying"
    for _ in range(5):
        fresh = CallbackSetup(setup.made)
        fresh.web = setup.web
        go(fresh)
    assert len(setup.web.of(URL)) == first, "nobody asks while it rests"
    setup.made.clock.advance(31)
    assert woken(setup) == [HOOK]
    fresh = CallbackSetup(setup.made)
    fresh.web = setup.web
    go(fresh)
    assert len(setup.web.of(URL)) == first + 1, "one alone, and then it rests again"


def test_one_that_does_not_answer_delays_no_other_and_is_taken_up_again(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.endpoint("quick")
    order(setup, *(f"s{number:02}" for number in range(40)))
    order(setup, "q", endpoint="quick")

    async def scene() -> None:
        setup.web.held[URL] = asyncio.Event()
        running = asyncio.create_task(setup.dispatcher.run([HOOK, EndpointRef("default", "quick")], seconds=0.3))
        while not setup.web.of("https://quick.example/"):
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        setup.made.clock.advance(1)
        setup.web.held.pop(URL).set()
        assert await running == []

    asyncio.run(scene())
    assert len(setup.web.of(URL)) == 16
    assert woken(setup) == [HOOK]
    go(setup)
    assert sorted({asked.headers["webhook-id"] for asked in setup.web.of(URL)}) == [f"s{number:02}" for number in range(40)]
    assert len(setup.web.of(URL)) == 40


def test_the_look_at_all_lanes_wakes_those_that_are_owed_something(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.endpoint("other")
    order(setup, "a")
    setup.made.clock.advance(3)
    looked = setup.dispatcher.wake_all()
    assert (looked.due, looked.oldest_ms, woken(setup)) == (1, 3_000, [HOOK])
    go(setup)
    assert setup.dispatcher.wake_all() == (0, 0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_nothing(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), CallbackSetup(made)
            sound.endpoint()
            order(sound, "a", "b")
            victim = CallbackSetup(made, faults)
            victim.web = sound.web
            killed = False
            try:
                go(victim)
            except (Killed, BaseExceptionGroup):
                killed = True
            made.clock.advance(120)
            sound.dispatcher.wake_all()
            go(sound, *woken(sound))
            assert {stands(sound, name).status for name in "ab"} == {DeliveryStatus.DELIVERED}
            assert len(sound.web.of(URL)) <= 4, "under the same ids, for the one kill"
        if not killed:
            assert number > 5
            return
        number += 1
