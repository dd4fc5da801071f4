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
from tests.events.callbacks_kit import SECRET, Lines, Reply, unreachable
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

URL = "https://hook.example/"
DAY_S = MAX_AGE_MS / 1000


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    with bench(tmp_path) as made:
        yield Lines(made)


def order(lines: Lines, *names: str, endpoint: str = "hook") -> None:
    """Deliveries that are due now."""
    now = lines.made.clock.now()
    made = [
        CallbackDelivery(id=name, endpoint=endpoint, tenant="default", body='{"type":"x"}', created_at=now, since=now, due=now)
        for name in names
    ]
    lines.deliveries.add(made)


def stands(lines: Lines, name: str = "a", endpoint: str = "hook") -> CallbackDelivery:
    return lines.deliveries.get("default", endpoint, name)


def endpoint_now(lines: Lines) -> CallbackEndpoint:
    return lines.callbacks.get("default", "hook")


def test_the_library_of_standard_webhooks_verifies_our_requests(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    lines.endpoint()
    order(lines, "a")
    lines.tell()
    (asked,) = lines.web.of(URL)
    seconds = lines.made.clock.now() // 1000
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _At(seconds))
    assert Webhook(secret_text(SECRET)).verify(asked.body, dict(asked.headers)) == {"type": "x"}
    lines.callbacks.rotate("default", "hook", b"n" * 32)
    order(lines, "b")
    lines.tell()
    (_, rotated) = lines.web.of(URL)
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


def test_what_is_answered_well_is_over(lines: Lines) -> None:
    lines.endpoint()
    order(lines, "a", "b")
    lines.tell()
    lines.tell_for(DAY_S, step=3_600)
    assert sorted(asked.headers["webhook-id"] for asked in lines.web.asked) == ["a", "b"]
    assert (stands(lines).status, stands(lines).last_status, stands(lines).due) == (DeliveryStatus.DELIVERED, 200, None)


@pytest.mark.parametrize(
    "reply", [Reply(500, "sorry"), Reply(302), Reply(404), unreachable(), Denied("private"), ValueError("odd")], ids=str
)
def test_everything_else_is_tried_again_under_the_same_id(lines: Lines, reply: Reply | Exception) -> None:
    lines.endpoint()
    lines.web.replies[URL] = reply
    order(lines, "a")
    lines.tell()
    assert (stands(lines).status, stands(lines).attempts) == (DeliveryStatus.PENDING, 1)
    lines.web.replies[URL] = Reply()
    lines.tell_for(20, step=10)
    assert stands(lines).status is DeliveryStatus.DELIVERED
    assert {asked.headers["webhook-id"] for asked in lines.web.asked} == {"a"}


def test_waits_grow_for_a_day_and_then_it_is_given_up_and_can_be_ordered_again(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(503, "down")
    order(lines, "a")
    lines.tell()
    lines.tell_for(DAY_S, step=60)
    dead = stands(lines)
    assert (dead.status, dead.last_status, dead.last_text, dead.due) == (DeliveryStatus.DEAD, 503, "down", None)
    assert 8 <= dead.attempts <= 11
    asked = len(lines.web.asked)
    lines.tell_for(DAY_S, step=3_600)
    assert len(lines.web.asked) == asked
    lines.web.replies[URL] = Reply()
    lines.deliveries.redeliver("default", "hook", "a")
    lines.tell_for(60)
    assert stands(lines).status is DeliveryStatus.DELIVERED
    assert lines.web.asked[-1].headers["webhook-id"] == "a"


def test_who_asks_for_time_gets_it(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(429, "slow down", retry_after_s=900.0)
    order(lines, "a")
    lines.tell()
    assert stands(lines).due == Instant(lines.made.clock.now() + 900_000)
    order(lines, "b")
    lines.tell_for(890, step=10)
    assert len(lines.web.asked) == 1, "nobody asks it anything meanwhile"
    lines.web.replies[URL] = Reply(429, "slow down", retry_after_s=10.0**9)
    lines.tell_for(20, step=10)
    assert [asked.headers["webhook-id"] for asked in lines.web.asked[1:]] in (["a"], ["b"])
    due = stands(lines, lines.web.asked[1].headers["webhook-id"]).due
    assert due is not None
    assert 3_580_000 <= due - lines.made.clock.now() <= 3_600_000, "up to an hour"


def test_who_says_that_nobody_is_there_any_more_is_switched_off(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(410, "gone")
    order(lines, "a")
    lines.tell()
    assert stands(lines).status is DeliveryStatus.DEAD
    assert not endpoint_now(lines).enabled
    assert [each.id for each in lines.switched_off] == ["hook"]


def test_three_days_without_success_switch_an_endpoint_off(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = Reply(500)
    for day in range(4):
        order(lines, f"day-{day}")
        lines.tell()
        lines.tell_for(DAY_S, step=3_600)
    assert not endpoint_now(lines).enabled
    assert "three days" in endpoint_now(lines).disabled_reason
    assert [each.id for each in lines.switched_off] == ["hook"]


def test_a_success_in_between_keeps_it(lines: Lines) -> None:
    lines.endpoint()
    for day in range(4):
        lines.web.replies[URL] = Reply(500)
        order(lines, f"day-{day}")
        lines.tell()
        lines.tell_for(DAY_S, step=7_200)
        lines.web.replies[URL] = Reply()
        order(lines, f"good-{day}")
        lines.tell_for(120)
    assert endpoint_now(lines).enabled
    assert endpoint_now(lines).failing_since is None


def test_while_it_is_switched_off_nothing_is_sent_and_nothing_is_lost_within_the_day(lines: Lines) -> None:
    endpoint = lines.endpoint()
    order(lines, "a")
    off = lines.callbacks.disable(endpoint, "by hand")
    lines.tell_for(7_200, step=600)
    assert lines.web.asked == []
    lines.callbacks.change(off, enabled=True)
    lines.tell_for(1_200, step=600)
    assert stands(lines).status is DeliveryStatus.DELIVERED


def test_what_waits_longer_than_a_day_for_it_is_given_up(lines: Lines) -> None:
    endpoint = lines.endpoint()
    order(lines, "a")
    lines.callbacks.disable(endpoint, "by hand")
    lines.tell_for(DAY_S + 1_200, step=600)
    assert (stands(lines).status, lines.web.asked) == (DeliveryStatus.DEAD, [])


def test_what_an_endpoint_was_owed_goes_with_it(lines: Lines) -> None:
    endpoint = lines.endpoint()
    order(lines, "a")
    lines.callbacks.remove(endpoint)
    lines.tell()
    assert lines.web.asked == []
    assert lines.deliveries.list("default", "hook").items == []
    assert list(lines.deliveries.endpoints()) == []


def test_one_that_does_not_answer_delays_no_other(lines: Lines) -> None:
    lines.endpoint()
    lines.endpoint("slow")
    order(lines, *(f"f{number:03}" for number in range(100)))
    order(lines, *(f"s{number:03}" for number in range(100)), endpoint="slow")

    async def scene() -> tuple[int, int]:
        lines.web.held["https://slow.example/"] = asyncio.Event()
        stop = asyncio.Event()
        running = asyncio.create_task(lines.lanes.run(stop))
        while len(lines.web.of(URL)) < 100:
            await asyncio.sleep(0.005)
            assert not running.done()
        seen = len(lines.web.of(URL)), len(lines.web.of("https://slow.example/"))
        lines.web.held["https://slow.example/"].set()
        stop.set()
        await running
        return seen

    fast, slow = asyncio.run(asyncio.wait_for(scene(), 30))
    assert fast == 100
    assert slow <= 16


def test_one_that_fails_is_tried_alone_and_with_rests_until_it_answers(lines: Lines) -> None:
    lines.endpoint()
    lines.web.replies[URL] = unreachable()
    order(lines, *(f"{number:03}" for number in range(200)))
    lines.tell()
    first = len(lines.web.asked)
    assert first <= 33
    lines.tell_for(20, step=1)
    assert len(lines.web.asked) - first <= 20
    lines.web.replies[URL] = Reply()
    lines.tell_for(900, step=30)
    assert lines.deliveries.list("default", "hook", status=DeliveryStatus.PENDING, limit=300).items == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_nothing_and_repeats_by_the_same_id(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), Lines(made)
            sound.endpoint()
            order(sound, "a", "b", "c")
            victim = Lines(made, faults)
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


def test_a_secret_that_cannot_be_opened_stops_no_other(lines: Lines) -> None:
    lines.endpoint()
    lines.endpoint("broken")
    lines.made.tables.write(list(lines.callbacks._secrets.deletes("default", "broken")))
    order(lines, "a", endpoint="broken")
    order(lines, "b")
    lines.tell()
    assert stands(lines, "b").status is DeliveryStatus.DELIVERED
    assert stands(lines, "a", "broken").status is DeliveryStatus.PENDING
