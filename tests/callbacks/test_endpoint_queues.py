"""Requests are made until they are answered well, by the same id, and one endpoint never delays another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from postroom.clock import Instant
from postroom.errors import Denied
from postroom.model.callback import MAX_AGE_MS, CallbackDelivery, CallbackEndpoint, DeliveryStatus, secret_text
from tests.callbacks.kit import SECRET, CallbackSetup, Reply, unreachable
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

URL = "https://hook.example/"
DAY_S = MAX_AGE_MS / 1000


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[CallbackSetup]:
    with bench(tmp_path) as made:
        yield CallbackSetup(made)


def order(setup: CallbackSetup, *names: str, endpoint: str = "hook") -> None:
    """Deliveries that are due now."""
    now = setup.made.clock.now()
    made = [
        CallbackDelivery(id=name, endpoint=endpoint, tenant="default", body='{"type":"x"}', created_at=now, since=now, due=now)
        for name in names
    ]
    setup.deliveries.add(made)


def stands(setup: CallbackSetup, name: str = "a", endpoint: str = "hook") -> CallbackDelivery:
    return setup.deliveries.get("default", endpoint, name)


def endpoint_now(setup: CallbackSetup) -> CallbackEndpoint:
    return setup.callbacks.get("default", "hook")


def test_the_library_of_standard_webhooks_verifies_our_requests(setup: CallbackSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.endpoint()
    order(setup, "a")
    setup.tell()
    (asked,) = setup.web.of(URL)
    seconds = setup.made.clock.now() // 1000
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _At(seconds))
    assert Webhook(secret_text(SECRET)).verify(asked.body, dict(asked.headers)) == {"type": "x"}
    setup.callbacks.rotate("default", "hook", b"n" * 32)
    order(setup, "b")
    setup.tell()
    (_, rotated) = setup.web.of(URL)
    for secret in (SECRET, b"n" * 32):
        assert Webhook(secret_text(secret)).verify(rotated.body, dict(rotated.headers)) == {"type": "x"}


class _At:
    """The library's clock, stopped."""

    def __init__(self, seconds: int) -> None:
        from datetime import UTC, datetime

        self._now = datetime.fromtimestamp(seconds, UTC)
        self.fromtimestamp = datetime.fromtimestamp

    def now(self, tz: object = None) -> object:
        return self._now


def test_what_is_answered_well_is_over(setup: CallbackSetup) -> None:
    setup.endpoint()
    order(setup, "a", "b")
    setup.tell()
    setup.tell_for(DAY_S, step=3_600)
    assert sorted(asked.headers["webhook-id"] for asked in setup.web.asked) == ["a", "b"]
    assert (stands(setup).status, stands(setup).last_status, stands(setup).due) == (DeliveryStatus.DELIVERED, 200, None)


@pytest.mark.parametrize(
    "reply", [Reply(500, "sorry"), Reply(302), Reply(404), unreachable(), Denied("private"), ValueError("odd")], ids=str
)
def test_everything_else_is_tried_again_under_the_same_id(setup: CallbackSetup, reply: Reply | Exception) -> None:
    setup.endpoint()
    setup.web.replies[URL] = reply
    order(setup, "a")
    setup.tell()
    assert (stands(setup).status, stands(setup).attempts) == (DeliveryStatus.PENDING, 1)
    setup.web.replies[URL] = Reply()
    setup.tell_for(20, step=10)
    assert stands(setup).status is DeliveryStatus.DELIVERED
    assert {asked.headers["webhook-id"] for asked in setup.web.asked} == {"a"}


def test_waits_grow_for_a_day_and_then_it_is_given_up_and_can_be_ordered_again(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(503, "down")
    order(setup, "a")
    setup.tell()
    setup.tell_for(DAY_S, step=60)
    dead = stands(setup)
    assert (dead.status, dead.last_status, dead.last_text, dead.due) == (DeliveryStatus.DEAD, 503, "down", None)
    assert 8 <= dead.attempts <= 11
    asked = len(setup.web.asked)
    setup.tell_for(DAY_S, step=3_600)
    assert len(setup.web.asked) == asked
    setup.web.replies[URL] = Reply()
    setup.deliveries.redeliver("default", "hook", "a")
    setup.tell_for(60)
    assert stands(setup).status is DeliveryStatus.DELIVERED
    assert setup.web.asked[-1].headers["webhook-id"] == "a"


def test_who_asks_for_time_gets_it(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(429, "slow down", retry_after_s=900.0)
    order(setup, "a")
    setup.tell()
    assert stands(setup).due == Instant(setup.made.clock.now() + 900_000)
    order(setup, "b")
    setup.tell_for(890, step=10)
    assert len(setup.web.asked) == 1, "nobody asks it anything meanwhile"
    setup.web.replies[URL] = Reply(429, "slow down", retry_after_s=10.0**9)
    setup.tell_for(20, step=10)
    assert [asked.headers["webhook-id"] for asked in setup.web.asked[1:]] in (["a"], ["b"])
    due = stands(setup, setup.web.asked[1].headers["webhook-id"]).due
    assert due is not None
    assert 3_580_000 <= due - setup.made.clock.now() <= 3_600_000, "up to an hour"


def test_who_says_that_nobody_is_there_any_more_is_switched_off(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(410, "gone")
    order(setup, "a")
    setup.tell()
    assert stands(setup).status is DeliveryStatus.DEAD
    assert not endpoint_now(setup).enabled
    assert [each.id for each in setup.switched_off] == ["hook"]


def test_three_days_without_success_switch_an_endpoint_off(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = Reply(500)
    for day in range(4):
        order(setup, f"day-{day}")
        setup.tell()
        setup.tell_for(DAY_S, step=3_600)
    assert not endpoint_now(setup).enabled
    assert "three days" in endpoint_now(setup).disabled_reason
    assert [each.id for each in setup.switched_off] == ["hook"]


def test_a_success_in_between_keeps_it(setup: CallbackSetup) -> None:
    setup.endpoint()
    for day in range(4):
        setup.web.replies[URL] = Reply(500)
        order(setup, f"day-{day}")
        setup.tell()
        setup.tell_for(DAY_S, step=7_200)
        setup.web.replies[URL] = Reply()
        order(setup, f"good-{day}")
        setup.tell_for(120)
    assert endpoint_now(setup).enabled
    assert endpoint_now(setup).failing_since is None


def test_while_it_is_switched_off_nothing_is_sent_and_nothing_is_lost_within_the_day(setup: CallbackSetup) -> None:
    endpoint = setup.endpoint()
    order(setup, "a")
    off = setup.callbacks.disable(endpoint, "by hand")
    setup.tell_for(7_200, step=600)
    assert setup.web.asked == []
    setup.callbacks.change(off, enabled=True)
    setup.tell_for(1_200, step=600)
    assert stands(setup).status is DeliveryStatus.DELIVERED


def test_what_waits_longer_than_a_day_for_it_is_given_up(setup: CallbackSetup) -> None:
    endpoint = setup.endpoint()
    order(setup, "a")
    setup.callbacks.disable(endpoint, "by hand")
    setup.tell_for(DAY_S + 1_200, step=600)
    assert (stands(setup).status, setup.web.asked) == (DeliveryStatus.DEAD, [])


def test_what_an_endpoint_was_owed_goes_with_it(setup: CallbackSetup) -> None:
    endpoint = setup.endpoint()
    order(setup, "a")
    setup.callbacks.remove(endpoint)
    setup.tell()
    assert setup.web.asked == []
    assert setup.deliveries.list("default", "hook").items == []
    assert list(setup.deliveries.endpoints()) == []


def test_one_that_does_not_answer_delays_no_other(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.endpoint("slow")
    order(setup, *(f"f{number:03}" for number in range(100)))
    order(setup, *(f"s{number:03}" for number in range(100)), endpoint="slow")

    async def scene() -> tuple[int, int]:
        setup.web.held["https://slow.example/"] = asyncio.Event()
        stop = asyncio.Event()
        running = asyncio.create_task(setup.lanes.run(stop))
        while len(setup.web.of(URL)) < 100:
            await asyncio.sleep(0.005)
            assert not running.done()
        seen = len(setup.web.of(URL)), len(setup.web.of("https://slow.example/"))
        setup.web.held["https://slow.example/"].set()
        stop.set()
        await running
        return seen

    fast, slow = asyncio.run(asyncio.wait_for(scene(), 30))
    assert fast == 100
    assert slow <= 16


def test_one_that_fails_is_tried_alone_and_with_rests_until_it_answers(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.web.replies[URL] = unreachable()
    order(setup, *(f"{number:03}" for number in range(200)))
    setup.tell()
    first = len(setup.web.asked)
    assert first <= 33
    setup.tell_for(20, step=1)
    assert len(setup.web.asked) - first <= 20
    setup.web.replies[URL] = Reply()
    setup.tell_for(900, step=30)
    assert setup.deliveries.list("default", "hook", status=DeliveryStatus.PENDING, limit=300).items == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_nothing_and_repeats_by_the_same_id(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), CallbackSetup(made)
            sound.endpoint()
            order(sound, "a", "b", "c")
            victim = CallbackSetup(made, faults)
            try:
                victim.tell()
            except Killed:
                sound.tell_for(180)
            asked = [each.headers["webhook-id"] for each in (*victim.web.asked, *sound.web.asked)]
            assert set(asked) == {"a", "b", "c"}
            assert {stands(sound, name).status for name in "abc"} == {DeliveryStatus.DELIVERED}
        if len(faults.calls) < number:
            return
        number += 1


def test_a_secret_that_cannot_be_opened_stops_no_other(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.endpoint("broken")
    setup.made.tables.write(list(setup.callbacks._secrets.deletes("default", "broken")))
    order(setup, "a", endpoint="broken")
    order(setup, "b")
    setup.tell()
    assert stands(setup, "b").status is DeliveryStatus.DELIVERED
    assert stands(setup, "a", "broken").status is DeliveryStatus.PENDING
