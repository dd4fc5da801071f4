"""Opens and clicks on AWS: on the queue before the answer, since a frozen process keeps nothing."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.events.tracking_buffer import MAX_PER_MESSAGE, SyncTrackingSink
from postroom.ledger.inbound_events import InboundEvent
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key
from tests.events.test_tracking_buffer import Store
from tests.fakes.clock import ManualClock


def hit(id: str, *, key: bytes = b"k" * 12, kind: EventKind = EventKind.OPENED) -> InboundEvent:  # noqa: A002
    return InboundEvent(1, "camp", 0, Key(key), Event(kind=kind, attempt=1, at=Instant(1), id=id, source="tracking"))


def hits_of(store: Store, clock: ManualClock | None = None) -> SyncTrackingSink:
    return SyncTrackingSink(store, clock or ManualClock())  # type: ignore[arg-type]  # a store of the test's own


def test_a_hit_is_on_the_queue_when_add_returns() -> None:
    store = Store()
    hits_of(store).add(hit("a"))
    assert store.ids == ["a"]


def test_the_same_event_again_is_put_once() -> None:
    store, clock = Store(), ManualClock()
    hits = hits_of(store, clock)
    for _ in range(3):
        hits.add(hit("a"))
    assert store.ids == ["a"]


def test_of_one_message_only_so_many_are_put_in_a_moment_and_others_are_not_kept_out() -> None:
    store, clock = Store(), ManualClock()
    hits = hits_of(store, clock)
    for number in range(MAX_PER_MESSAGE + 10):
        hits.add(hit(str(number)))
    hits.add(hit("other", key=b"o" * 12))
    assert len(store.ids) == MAX_PER_MESSAGE + 1
    clock.advance(20)
    hits.add(hit("later"))
    assert store.ids[-1] == "later"


def test_a_queue_that_does_not_answer_costs_the_hit_and_not_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.errors = [Unavailable("away")]
    hits = hits_of(store)
    hits.add(hit("a", kind=EventKind.CLICKED))
    assert (store.ids, hits.dropped) == ([], 1)
    assert "tracking.event_dropped kind=clicked" in caplog.text
    hits.add(hit("a", kind=EventKind.CLICKED))
    assert store.ids == ["a"]
