"""Hits wait a moment and are written together: none is lost but with the process, and none keeps anybody waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.events.tracking_buffer import GROUP_SIZE, MAX_PER_MESSAGE, TrackingBuffer
from postroom.ledger.inbound_events import InboundEvent
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key

LONG = 3_600.0
"""A moment that does not end by itself."""
PATIENCE_S = 10.0


class Store:
    """Keeps what is put, unless it is told to fail."""

    def __init__(self) -> None:
        self.groups: list[list[InboundEvent]] = []
        self.errors: list[Exception] = []
        """Of the next puts, one after the other."""
        self.tried = threading.Event()
        self.open = threading.Event()
        """Closed: whoever puts something waits."""
        self.open.set()

    def put(self, arrivals: Sequence[InboundEvent]) -> None:
        self.tried.set()
        assert self.open.wait(PATIENCE_S)
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(list(arrivals))

    @property
    def ids(self) -> list[str]:
        return [each.event.id for group in self.groups for each in group]


def hits_of(store: Store, **options: float) -> TrackingBuffer:
    return TrackingBuffer(store, **{"flush_s": LONG, **options})  # type: ignore[arg-type]  # a store of the test's own


def hit(number: int, kind: EventKind = EventKind.OPENED, *, key: Key | None = None) -> InboundEvent:
    """Each of a message of its own, unless `key` says whose."""
    event = Event(kind=kind, attempt=1, at=Instant(0), id=f"{number}", source="tracking")
    return InboundEvent(0, "a" * 16, 0, key or Key(number.to_bytes(12, "big")), event)


def no_writer() -> bool:
    return not any(thread.name == "tracking" for thread in threading.enumerate())


def test_what_came_in_a_moment_is_written_together_and_in_order() -> None:
    store = Store()
    hits = hits_of(store)
    for number in range(50):
        hits.add(hit(number))
    assert not store.tried.is_set()
    hits.close()
    assert [len(group) for group in store.groups] == [50]
    assert store.ids == [str(number) for number in range(50)]


def test_the_moment_ends_by_itself() -> None:
    store = Store()
    hits = hits_of(store, flush_s=0.001)
    hits.add(hit(1))
    assert store.tried.wait(PATIENCE_S)
    hits.close()
    assert store.ids == ["1"]


def test_of_one_message_so_many_wait_and_no_more() -> None:
    """Who asks for one link without end, under another name each time, takes nobody's room."""
    store, one = Store(), Key(b"k" * 12)
    hits = hits_of(store)
    for number in range(MAX_PER_MESSAGE * 3):
        hits.add(hit(number, key=one))
    hits.add(hit(9_999))
    hits.close()
    assert store.ids == [*(str(number) for number in range(MAX_PER_MESSAGE)), "9999"]


def test_many_are_not_kept_waiting() -> None:
    store = Store()
    hits = hits_of(store)
    for number in range(GROUP_SIZE):
        hits.add(hit(number))
    assert store.tried.wait(PATIENCE_S)
    hits.close()
    assert len(store.ids) == GROUP_SIZE


def test_the_same_event_is_written_once() -> None:
    store = Store()
    hits = hits_of(store)
    for _ in range(3):
        hits.add(hit(1))
    hits.close()
    assert store.ids == ["1"]


def test_the_thread_is_there_only_while_something_waits() -> None:
    hits = hits_of(Store())
    assert no_writer()
    hits.add(hit(1))
    assert not no_writer()
    hits.close()
    assert no_writer()
    hits.close()


def test_while_the_store_does_not_answer_hits_wait() -> None:
    """And those that were under way come first."""
    store = Store()
    store.errors = [Unavailable("busy"), Unavailable("still busy")]
    hits = hits_of(store, flush_s=0.001)
    hits.add(hit(1))
    assert store.tried.wait(PATIENCE_S)
    hits.add(hit(2))
    hits.close()
    assert store.ids == ["1", "2"]
    assert hits.dropped == 0


def test_adding_never_waits_for_the_store() -> None:
    store = Store()
    store.open.clear()
    hits = hits_of(store, flush_s=0.001)
    hits.add(hit(1))
    assert store.tried.wait(PATIENCE_S)
    hits.add(hit(2))  # while the other is being written
    store.open.set()
    hits.close()
    assert store.ids == ["1", "2"]


def test_opens_are_dropped_first_and_clicks_later_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    hits = hits_of(store, max_waiting=10)
    for number in range(20):
        hits.add(hit(number))
    assert hits.dropped == 10
    for number in range(20, 40):
        hits.add(hit(number, EventKind.CLICKED))
    assert hits.dropped == 25
    with caplog.at_level(logging.ERROR):
        hits.close()
    assert store.ids == [str(number) for number in (*range(10), *range(20, 25))]
    assert "tracking.events_dropped events=25" in caplog.text


def test_a_store_that_never_answers_does_not_keep_the_process(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.errors = [Unavailable("gone")] * 1_000_000
    hits = hits_of(store, close_timeout_s=0.01)
    hits.add(hit(1))
    hits.add(hit(2))
    hits.close()
    assert no_writer()
    assert hits.dropped == 2
    assert "tracking.events_dropped events=2" in caplog.text


def test_what_nobody_foresaw_ends_neither_the_thread_nor_the_hits_after_it(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.errors = [ValueError("a mistake of ours")]
    hits = hits_of(store, flush_s=0.001)
    hits.add(hit(1))
    assert store.tried.wait(PATIENCE_S)
    hits.close()
    assert hits.dropped == 1
    hits.add(hit(2))
    hits.close()
    assert store.ids == ["2"]
    assert "a mistake of ours" in caplog.text
