"""Deliveries as they are kept: what is due is found, what is in somebody's hands is theirs, what is over stays over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from postroom.clock import Instant
from postroom.errors import NotFound
from postroom.ledger.callback_deliveries import CallbackDeliveries, ClaimedDelivery, EndpointRef
from postroom.model.callback import MAX_AGE_MS, CallbackDelivery, DeliveryStatus
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Delete, ItemKey, Write
from tests.fakes.clock import ManualClock

LANE = EndpointRef("acme", "hook")
LEASE_MS = 60_000


class Desk:
    """The records over one control file."""

    def __init__(self, tables: SqliteTables, clock: ManualClock) -> None:
        self.tables, self.clock = tables, clock
        self.deliveries = CallbackDeliveries(tables, clock)

    def order(self, *names: str, body: str = "{}") -> None:
        now = self.clock.now()
        self.deliveries.add(
            [
                CallbackDelivery(
                    id=name, endpoint=LANE.endpoint, tenant=LANE.tenant, body=body, created_at=now, since=now, due=now
                )
                for name in names
            ]
        )

    def take(self, limit: int = 33) -> list[ClaimedDelivery]:
        return self.deliveries.claim(LANE, limit=limit, lease_ms=LEASE_MS)

    def get(self, name: str = "a") -> CallbackDelivery:
        return self.deliveries.get(*LANE, name)

    def answered(self, taken: ClaimedDelivery, *, status: int = 200, due: Instant | None = None) -> CallbackDelivery:
        """As it is after a try."""
        state = DeliveryStatus.DELIVERED if due is None else DeliveryStatus.PENDING
        known = taken.delivery
        return replace(known, status=state, due=due, attempts=known.attempts + 1, last_at=self.clock.now(), last_status=status)

    def places(self) -> list[str]:
        return [item.key.sort for item in self.tables.query("acme#deliveries-due#hook").items]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Desk(SqliteTables(control, clock), clock)


def test_what_is_added_again_is_there_once(desk: Desk) -> None:
    desk.order("a", "b")
    desk.order("b", "c")
    assert [each.delivery.id for each in desk.take()] == ["a", "b", "c"]


def test_what_is_in_somebody_s_hands_is_nobody_else_s_until_the_lease_has_run_out(desk: Desk) -> None:
    desk.order("a")
    assert desk.deliveries.is_due(LANE)
    (mine,) = desk.take()
    assert (desk.take(), desk.deliveries.is_due(LANE)) == ([], False)
    desk.clock.advance(LEASE_MS / 1000)
    (theirs,) = desk.take()
    assert theirs.delivery == mine.delivery


def test_of_two_that_settle_the_first_says_and_nothing_is_tried_again(desk: Desk) -> None:
    desk.order("a")
    (late,) = desk.take()
    desk.clock.advance(LEASE_MS / 1000)
    (mine,) = desk.take()
    desk.deliveries.settle([mine], [desk.answered(mine)])
    desk.deliveries.settle([late], [desk.answered(late, status=500, due=Instant(desk.clock.now() + 5_000))])
    assert (desk.get().status, desk.get().last_status, desk.places()) == (DeliveryStatus.DELIVERED, 200, [])


def test_one_that_was_dropped_in_somebody_s_hands_does_not_come_back(desk: Desk) -> None:
    desk.order("a", "b")
    taken = desk.take()
    desk.deliveries.drop(*LANE)
    desk.deliveries.settle(taken, [desk.answered(each, due=Instant(desk.clock.now() + 5_000)) for each in taken])
    assert desk.places() == []
    with pytest.raises(NotFound):
        desk.get()


def test_one_that_is_ordered_again_is_tried_at_once_under_its_id_whatever_it_waited_for(desk: Desk) -> None:
    desk.order("a")
    (taken,) = desk.take()
    desk.deliveries.settle([taken], [desk.answered(taken, status=500, due=Instant(desk.clock.now() + 28_800_000))])
    again = desk.deliveries.redeliver(*LANE, "a")
    assert (again.attempts, again.since) == (0, desk.clock.now())
    (taken,) = desk.take()
    desk.clock.advance(1)
    assert desk.deliveries.redeliver(*LANE, "a").due == desk.clock.now(), "somebody has it: it is tried once more"
    desk.deliveries.settle([taken], [desk.answered(taken)])
    (taken,) = desk.take()
    desk.deliveries.settle([taken], [desk.answered(taken)])
    assert (desk.get().status, desk.places()) == (DeliveryStatus.DELIVERED, [])
    desk.deliveries.redeliver(*LANE, "a")
    assert [each.delivery.id for each in desk.take()] == ["a"]


def test_one_that_was_ordered_again_in_the_hands_of_somebody_who_is_killed_is_tried_once(desk: Desk) -> None:
    desk.order("a", "b")
    desk.take()
    desk.deliveries.redeliver(*LANE, "a")
    desk.clock.advance(LEASE_MS / 1000)
    assert len(desk.places()) == 3
    taken = desk.take()
    assert sorted(each.delivery.id for each in taken) == ["a", "b"]
    assert len(desk.places()) == 2
    desk.deliveries.settle(taken, [desk.answered(each) for each in taken])
    assert desk.places() == []


def test_one_that_loses_a_person_in_somebody_s_hands_is_settled_all_the_same(desk: Desk) -> None:
    told = {"type": "message.opened", "data": {"recipient": "ann@example.com", "detail": "agent", "url": None}}
    desk.order("a", "b", body=json.dumps(told))
    one, two = desk.take()
    assert desk.deliveries.forget(*LANE, lambda address: address == "ann@example.com", lambda: None) == 2
    later = Instant(desk.clock.now() + 5_000)
    echoed = replace(desk.answered(one), last_text="thank you for ann@example.com")
    desk.deliveries.settle([one, two], [echoed, desk.answered(two, status=500, due=later)])
    assert (desk.get("a").status, desk.get("b").status) == (DeliveryStatus.DELIVERED, DeliveryStatus.PENDING)
    assert "ann" not in repr(desk.get("a")) + repr(desk.get("b"))
    desk.clock.advance(5)
    assert [each.delivery.id for each in desk.take()] == ["b"]


def test_a_place_without_a_record_is_cleared(desk: Desk) -> None:
    desk.order("a", "b")
    desk.tables.write([Delete(ItemKey("acme#deliveries#hook", "a"))])
    assert [each.delivery.id for each in desk.take()] == ["b"]
    desk.clock.advance(LEASE_MS / 1000)
    assert [each.delivery.id for each in desk.take()] == ["b"]
    assert len(desk.places()) == 1


def test_only_those_whose_day_is_over_are_given_up(desk: Desk) -> None:
    desk.order("a")
    desk.clock.advance(10)
    desk.order("b")
    desk.clock.advance(MAX_AGE_MS / 1000)
    before = Instant(desk.clock.now() - MAX_AGE_MS)
    assert desk.deliveries.give_up(LANE, before, "nobody answered") == 1
    assert (desk.get("a").status, desk.get("a").last_text) == (DeliveryStatus.DEAD, "nobody answered")
    assert [each.delivery.id for each in desk.take()] == ["b"]


def give_up(desk: Desk, *names: str) -> None:
    """As a day of failures ends."""
    desk.order(*names)
    taken = [each for each in desk.take() if each.delivery.id in names]
    ended = [replace(each.delivery, status=DeliveryStatus.DEAD, due=None, last_at=desk.clock.now()) for each in taken]
    desk.deliveries.settle(taken, ended)


def redeliver_dead(desk: Desk, since: Instant) -> int:
    """Over the whole list."""
    part = desk.deliveries.redeliver_dead(*LANE, since=since)
    ordered = part.ordered
    while part.cursor is not None:
        part = desk.deliveries.redeliver_dead(*LANE, since=since, cursor=part.cursor)
        ordered += part.ordered
    return ordered


def test_all_that_was_given_up_since_a_time_is_ordered_again_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.ledger.callback_deliveries._DEAD_PAGE", 2)
    give_up(desk, "a")
    desk.clock.advance(10)
    since = desk.clock.now()
    give_up(desk, "b", "c", "d")
    desk.order("e")
    (delivered,) = desk.take()
    desk.deliveries.settle([delivered], [desk.answered(delivered)])
    assert redeliver_dead(desk, since) == 3
    assert redeliver_dead(desk, since) == 0
    assert [each.delivery.id for each in desk.take()] == ["b", "c", "d"]
    assert desk.get("a").status is DeliveryStatus.DEAD


def test_one_that_somebody_orders_meanwhile_holds_up_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    give_up(desk, "a", "b")
    write, once = desk.tables.write, iter([True])

    def late(writes: Sequence[Write]) -> list[int]:
        if len(writes) > 2 and next(once, False):
            desk.deliveries.redeliver(*LANE, "a")
        return write(writes)

    desk.deliveries._registered.put(LANE, True, seconds=60)
    monkeypatch.setattr(desk.tables, "write", late)
    assert redeliver_dead(desk, Instant(0)) == 2
    assert [each.delivery.id for each in desk.take()] == ["a", "b"]


def test_what_is_over_is_kept_a_while_and_what_is_not_until_it_is(desk: Desk) -> None:
    desk.order("a", "b")
    (taken,) = desk.take(1)
    desk.deliveries.settle([taken], [desk.answered(taken)])
    desk.clock.advance(3 * 86_400)
    with pytest.raises(NotFound):
        desk.get("a")
    assert desk.get("b").status is DeliveryStatus.PENDING
