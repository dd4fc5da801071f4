"""What is heard at the same time is stored in one write, and nobody is back before its own is stored."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.events.group_commit import GroupCommit
from postroom.ledger.inbound_events import InboundEvent
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key
from tests.flow.campaign_kit import until

_PATIENCE_S = 10


def arrival(number: int) -> InboundEvent:
    event = Event(kind=EventKind.OPENED, attempt=1, at=Instant(1), id=f"e{number}", source="ses")
    return InboundEvent(0, "a" * 16, 0, Key(b"k" * 12), event)


class Store:
    """Keeps what it is given; the first write takes until it is let go."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.under_way, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def put(self, arrivals: Sequence[InboundEvent]) -> None:
        self.under_way.set()
        assert self.go.wait(_PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.writes.append([each.event.id for each in arrivals])


class Callers:
    """Who has something to store, each in a thread."""

    def __init__(self, store: Store) -> None:
        self.together = GroupCommit(store.put)
        self.back: list[int] = []
        self.failed: list[int] = []
        self._threads: list[threading.Thread] = []

    def come(self, number: int) -> None:
        thread = threading.Thread(target=self._call, args=(number,))
        self._threads.append(thread)
        thread.start()

    def gone(self) -> None:
        for thread in self._threads:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()

    def waiting(self) -> int:
        return len(self.together._waiting)

    def _call(self, number: int) -> None:
        try:
            self.together.put([arrival(number)])
        except Unavailable:
            self.failed.append(number)
        else:
            self.back.append(number)


def first_is_writing_and_others_wait(store: Store, others: int) -> Callers:
    callers = Callers(store)
    callers.come(0)
    assert store.under_way.wait(_PATIENCE_S)
    for number in range(1, others + 1):
        callers.come(number)
    until(lambda: callers.waiting() == others, "all to wait")
    return callers


def test_who_comes_while_a_write_is_under_way_shares_the_next() -> None:
    store = Store()
    callers = first_is_writing_and_others_wait(store, 20)
    assert callers.back == []
    store.go.set()
    callers.gone()
    assert [len(write) for write in store.writes] == [1, 20]
    assert sorted(callers.back) == list(range(21))
    assert sorted(name for write in store.writes for name in write) == sorted(f"e{number}" for number in range(21))


def test_a_write_that_fails_fails_for_all_who_shared_it_and_for_nobody_else() -> None:
    store = Store()
    store.error = Unavailable("the disk is full")
    callers = first_is_writing_and_others_wait(store, 5)
    store.go.set()
    callers.gone()
    assert (callers.back, sorted(callers.failed), store.writes) == ([], list(range(6)), [])
    store.error = None
    callers.together.put([arrival(9)])
    assert store.writes == [["e9"]]


def test_what_nobody_foresaw_is_raised_where_each_waits() -> None:
    def put(arrivals: Sequence[InboundEvent]) -> None:
        raise ZeroDivisionError

    together = GroupCommit(put)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            together.put([arrival(1)])
