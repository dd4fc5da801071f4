"""The promise of `ports.queues`, on every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from postroom.errors import Invalid, LeaseLost, TooLarge
from postroom.platform.ports.queues import MAX_BODY_BYTES, MAX_RECEIVES, QueueDepth, Queues, Received
from tests.contract.backend import Backend

Q = "work"


def take(backend: Backend, queues: Queues, want: int, *, queue: str = Q, lease_s: int = 30) -> list[Received]:
    """Receive until `want` items came: one call may bring fewer than there are."""
    got: list[Received] = []
    for _ in range(40):
        got += queues.receive(queue, limit=min(10, want - len(got)), lease_s=lease_s)
        if len(got) == want:
            return got
        backend.wait(0.05)
    raise AssertionError(f"{len(got)} of {want} items came")


def take_one(backend: Backend, queues: Queues, *, lease_s: int = 30) -> Received:
    return take(backend, queues, 1, lease_s=lease_s)[0]


def becomes(backend: Backend, look: Callable[[], object], expected: object) -> None:
    """What is eventually right gets its time."""
    for _ in range(40):
        if look() == expected:
            return
        backend.wait(0.05)
    assert look() == expected


def kill(backend: Backend, queues: Queues, *bodies: str) -> None:
    """Make dead letters of new items."""
    queues.send(Q, bodies)
    for _ in range(MAX_RECEIVES):
        for item in take(backend, queues, len(bodies)):
            queues.extend(Q, item.receipt, 0)
    assert queues.receive(Q, limit=10) == []


def test_what_is_sent_is_received_once_and_gone_when_deleted(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ['{"n": 1}', '{"n": 2}'])
    got = take(backend, queues, 2)
    assert sorted(item.body for item in got) == ['{"n": 1}', '{"n": 2}']
    assert [item.receives for item in got] == [1, 1]
    assert len({item.id for item in got}) == 2
    assert queues.receive(Q, limit=10) == []
    for item in got:
        queues.delete(Q, item.receipt)
    becomes(backend, lambda: queues.depth(Q), QueueDepth(0, 0, 0, 0))


def test_another_client_receives_and_finishes_what_one_sent(backend: Backend) -> None:
    backend.queues().send(Q, ["1"])
    receiver = backend.queues()
    item = take_one(backend, receiver)
    backend.queues().delete(Q, item.receipt)
    assert receiver.receive(Q) == []


def test_a_queue_nobody_sent_to_is_empty(queues: Queues) -> None:
    assert queues.receive("never") == []
    assert queues.depth("never") == QueueDepth(0, 0, 0, 0)
    assert queues.dead_letters("never") == []
    assert queues.redrive("never") == 0
    queues.purge("never")


def test_queues_are_apart(backend: Backend, queues: Queues) -> None:
    queues.send("a", ["1"])
    queues.send("a-b", ["2"])
    assert [item.body for item in take(backend, queues, 1, queue="a")] == ["1"]
    assert [item.body for item in take(backend, queues, 1, queue="a-b")] == ["2"]
    assert queues.receive("A") == []


@pytest.mark.parametrize("body", ['"\\u0000"', '"é \U0001f600 \u2028"', "[]", '{"a": "]]>&lt;"}'])
def test_a_body_comes_back_as_it_was(backend: Backend, queues: Queues, body: str) -> None:
    queues.send(Q, [body])
    assert take_one(backend, queues).body == body


def test_the_largest_body_passes_and_a_larger_is_refused(backend: Backend, queues: Queues) -> None:
    largest = '"' + "é" * (MAX_BODY_BYTES // 2 - 1) + '"'
    queues.send(Q, [largest] * 2)
    assert [item.body for item in take(backend, queues, 2)] == [largest] * 2
    with pytest.raises(TooLarge):
        queues.send(Q, ["1", largest + " "])
    assert queues.receive(Q) == []


def test_ten_items_go_in_one_call_and_eleven_are_refused(backend: Backend, queues: Queues) -> None:
    with pytest.raises(Invalid):
        queues.send(Q, [str(n) for n in range(11)])
    queues.send(Q, [str(n) for n in range(10)])
    queues.send(Q, [])
    assert sorted(int(item.body) for item in take(backend, queues, 10)) == list(range(10))


def test_a_lease_that_runs_out_hands_the_item_on_and_voids_the_old_receipt(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1"])
    first = take_one(backend, queues, lease_s=1)
    backend.wait(1.2)
    second = take_one(backend, queues)
    assert (second.id, second.receives) == (first.id, 2)
    with pytest.raises(LeaseLost):
        queues.extend(Q, first.receipt, 30)
    with pytest.raises(LeaseLost):
        queues.delete(Q, first.receipt)
    assert queues.receive(Q) == []
    queues.delete(Q, second.receipt)
    backend.wait(0.1)
    assert queues.receive(Q) == []


def test_an_extended_lease_keeps_the_item(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1"])
    item = take_one(backend, queues, lease_s=1)
    queues.extend(Q, item.receipt, 30)
    backend.wait(1.2)
    assert queues.receive(Q) == []
    queues.delete(Q, item.receipt)


def test_an_item_given_back_is_handed_out_at_once(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1"])
    first = take_one(backend, queues)
    queues.extend(Q, first.receipt, 0)
    second = take_one(backend, queues)
    assert (second.id, second.receives) == (first.id, 2)
    with pytest.raises(LeaseLost):
        queues.delete(Q, first.receipt)


def test_extending_what_is_gone_is_a_lost_lease_and_deleting_it_again_harmless(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1"])
    item = take_one(backend, queues)
    queues.delete(Q, item.receipt)
    queues.delete(Q, item.receipt)
    with pytest.raises(LeaseLost):
        queues.extend(Q, item.receipt, 30)


def test_a_delayed_item_waits(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1"], delay_s=1)
    assert queues.receive(Q) == []
    backend.wait(1.2)
    assert take_one(backend, queues).body == "1"


@pytest.mark.parametrize("delay_s", [-1, 901])
def test_a_delay_out_of_range_is_invalid(queues: Queues, delay_s: int) -> None:
    with pytest.raises(Invalid):
        queues.send(Q, ["1"], delay_s=delay_s)


@pytest.mark.parametrize(("limit", "lease_s"), [(0, 30), (11, 30), (1, -1), (1, 43_201)])
def test_a_receive_out_of_range_is_invalid(queues: Queues, limit: int, lease_s: int) -> None:
    with pytest.raises(Invalid):
        queues.receive(Q, limit=limit, lease_s=lease_s)


@pytest.mark.parametrize("name", ["", "a b", "a.fifo", "é", "a" * 61, "../a", "a\n"])
def test_a_name_out_of_bounds_is_invalid(queues: Queues, name: str) -> None:
    with pytest.raises(Invalid):
        queues.send(name, ["1"])
    with pytest.raises(Invalid):
        queues.receive(name)
    with pytest.raises(Invalid):
        queues.purge(name)


@pytest.mark.parametrize("receipt", ["", "nonsense", "1.x", "1.2.3"])
def test_a_receipt_from_elsewhere_is_refused(backend: Backend, queues: Queues, receipt: str) -> None:
    queues.send(Q, ["1"])
    take_one(backend, queues)
    with pytest.raises((Invalid, LeaseLost)):
        queues.extend(Q, receipt, 30)


def test_what_nobody_manages_to_handle_becomes_a_dead_letter_with_its_count(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["poison"])
    for n in range(1, MAX_RECEIVES + 1):
        item = take_one(backend, queues)
        assert item.receives == n
        assert queues.dead_letters(Q) == []
        queues.extend(Q, item.receipt, 0)
    assert queues.receive(Q) == []
    becomes(backend, lambda: [(d.body, d.receives) for d in queues.dead_letters(Q)], [("poison", MAX_RECEIVES)])
    becomes(backend, lambda: queues.depth(Q), QueueDepth(0, 0, 0, 1))
    assert len(queues.dead_letters(Q, limit=1)) == 1, "looking leaves it in place"


def test_a_dead_letter_on_the_way_does_not_hide_what_waits_behind_it(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["poison"])
    for _ in range(MAX_RECEIVES):
        queues.extend(Q, take_one(backend, queues).receipt, 0)
    queues.send(Q, ["good"])
    assert take_one(backend, queues).body == "good"
    becomes(backend, lambda: [d.body for d in queues.dead_letters(Q)], ["poison"])


def test_the_last_holder_of_a_dead_letter_cannot_keep_it_and_may_say_done(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["poison"])
    for _ in range(MAX_RECEIVES):
        last = take_one(backend, queues)
        queues.extend(Q, last.receipt, 0)
    assert queues.receive(Q) == []
    with pytest.raises(LeaseLost):
        queues.extend(Q, last.receipt, 30)
    queues.delete(Q, last.receipt)


def test_redriven_items_start_afresh_and_old_receipts_mean_nothing(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["poison"])
    for _ in range(MAX_RECEIVES):
        last = take_one(backend, queues)
        queues.extend(Q, last.receipt, 0)
    assert queues.receive(Q) == []
    becomes(backend, lambda: len(queues.dead_letters(Q)), 1)
    assert queues.redrive(Q) == 1
    queues.delete(Q, last.receipt)
    item = take_one(backend, queues)
    assert (item.body, item.receives) == ("poison", 1)
    assert queues.dead_letters(Q) == []
    assert queues.redrive(Q) == 0
    queues.delete(Q, item.receipt)


def test_redrive_moves_every_dead_letter(backend: Backend, queues: Queues) -> None:
    bodies = [str(n) for n in range(12)]
    kill(backend, queues, *bodies[:6])
    kill(backend, queues, *bodies[6:])
    becomes(backend, lambda: queues.depth(Q).dead, 12)
    assert len(queues.dead_letters(Q, limit=10)) <= 10
    assert queues.redrive(Q) == 12
    assert sorted(item.body for item in take(backend, queues, 12)) == sorted(bodies)


def test_depth_tells_ready_leased_and_delayed_apart(backend: Backend, queues: Queues) -> None:
    queues.send(Q, ["1", "2", "3"])
    queues.send(Q, ["later"], delay_s=900)
    take_one(backend, queues)
    becomes(backend, lambda: queues.depth(Q), QueueDepth(ready=2, leased=1, delayed=1, dead=0))


def test_purge_deletes_all_of_one_queue(backend: Backend, queues: Queues) -> None:
    kill(backend, queues, "dead")
    queues.send(Q, ["ready", "leased"])
    queues.send("other", ["kept"])
    take_one(backend, queues)
    queues.purge(Q)
    becomes(backend, lambda: queues.depth(Q), QueueDepth(0, 0, 0, 0))
    assert queues.receive(Q) == []
    assert queues.dead_letters(Q) == []
    assert take(backend, queues, 1, queue="other")[0].body == "kept"


def test_racing_receivers_never_hold_the_same_item(backend: Backend) -> None:
    clients = [backend.queues() for _ in range(3)]
    clients[0].send(Q, [str(n) for n in range(10)])
    clients[0].send(Q, [str(n) for n in range(10, 20)])
    start = threading.Barrier(len(clients))

    def drain(queues: Queues) -> list[str]:
        start.wait(10)
        bodies: list[str] = []
        empty = 0
        while empty < 3:
            items = queues.receive(Q, limit=3)
            empty = 0 if items else empty + 1
            bodies += [item.body for item in items]
            for item in items:
                queues.delete(Q, item.receipt)
        return bodies

    with ThreadPoolExecutor(len(clients)) as pool:
        drained = [body for bodies in pool.map(drain, clients) for body in bodies]
    assert sorted(drained, key=int) == [str(n) for n in range(20)]


@pytest.mark.backends("embedded")
def test_items_are_kept_four_days_and_dead_letters_longer(backend: Backend, queues: Queues) -> None:
    kill(backend, queues, "dead")
    queues.send(Q, ["forgotten"])
    backend.wait(4 * 24 * 3_600 + 1)
    queues.send(Q, ["fresh"])
    assert queues.depth(Q) == QueueDepth(ready=1, leased=0, delayed=0, dead=1)
    assert [item.body for item in queues.receive(Q, limit=10)] == ["fresh"]
    assert [letter.body for letter in queues.dead_letters(Q)] == ["dead"]
    backend.wait(10 * 24 * 3_600)
    queues.send(Q, ["later"])
    assert [item.body for item in queues.receive(Q, limit=10)] == ["later"]
    assert queues.dead_letters(Q) == [], "for ever is too long for what may name people"
