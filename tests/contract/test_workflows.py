"""The promise of `ports.workflows`, on every backend that keeps it yet; how handlers are called is the workers' on one machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, LeaseLost, NotFound, TooLarge, Unavailable
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.platform.ports.workflows import (
    HANDLER_LEASE_MS,
    Again,
    Done,
    Execution,
    ExecutionStatus,
    Handler,
    HandlerCall,
    Workflows,
)
from tests.contract.backend import Backend
from tests.contract.steps_backend import DrivenWorkflows

pytestmark = pytest.mark.backends("embedded", "steps")


class Driven(Workflows, Protocol):
    """With whoever calls handlers: workers here, the functions of state machines there."""

    def run_due(
        self, workflow: str, handler: Handler, owner: str, *, dead: Collection[str] = (), only: str | None = None
    ) -> bool:
        """Call it for one execution that is due; False: there is none."""
        ...

    def next_due(self, workflow: str) -> Instant | None:
        """When there is work next."""
        ...


def connect(backend: Backend) -> Driven:
    workflows = backend.workflows()
    assert isinstance(workflows, SqliteWorkflows | DrivenWorkflows)
    return workflows


@pytest.fixture
def workflows(backend: Backend) -> Driven:
    return connect(backend)


def get(workflows: Driven, execution: str = "one") -> Execution:
    found = workflows.get("work", execution)
    assert found is not None
    return found


def done(call: HandlerCall) -> Done:
    return Done()


def raising(error: BaseException) -> Callable[[HandlerCall], Done]:
    def handler(call: HandlerCall) -> Done:
        raise error

    return handler


def test_an_execution_runs_from_start_to_done(backend: Backend, workflows: Driven) -> None:
    assert workflows.get("work", "one") is None
    began = backend.clock.now()
    assert workflows.start("work", "one", '{"key": "k"}')
    running = Execution("work", "one", ExecutionStatus.RUNNING, '{"key": "k"}', began, None, None)
    assert get(workflows) == running
    backend.wait(1)
    calls: list[Execution] = []

    def handler(call: HandlerCall) -> Done:
        calls.append(call.execution)
        backend.wait(2)
        assert call.alive()
        return Done()

    assert connect(backend).run_due("work", handler, "w")
    assert calls == [running]
    assert get(workflows) == Execution(
        "work", "one", ExecutionStatus.SUCCEEDED, '{"key": "k"}', began, Instant(began + 3_000), None
    )
    assert not workflows.run_due("work", handler, "w")


def test_a_name_starts_once_and_may_be_restarted_only_when_it_has_ended(workflows: Driven) -> None:
    assert workflows.start("work", "one", "1")
    assert not workflows.start("work", "one", "2")
    assert not workflows.restart("work", "one", "2")
    assert get(workflows).input == "1"
    workflows.run_due("work", done, "w")
    assert not workflows.start("work", "one", "2")
    assert get(workflows).status is ExecutionStatus.SUCCEEDED
    assert workflows.restart("work", "one", "3")
    again = get(workflows)
    assert (again.status, again.input, again.ended_at) == (ExecutionStatus.RUNNING, "3", None)
    assert workflows.restart("work", "new", "4")
    assert workflows.start("other", "one", "5"), "another workflow's names are its own"


def test_running_lists_what_has_not_ended_oldest_first(backend: Backend, workflows: Driven) -> None:
    for name in ("z", "y", "x"):
        workflows.start("work", name, "1")
        backend.wait(1)
    workflows.start("other", "w", "1")
    workflows.stop("work", "y", "enough")
    assert [execution.execution for execution in workflows.running("work")] == ["z", "x"]
    assert get(workflows, "y").reason == "enough"


def test_racing_starts_begin_one(backend: Backend) -> None:
    clients = [connect(backend) for _ in range(4)]
    start = threading.Barrier(len(clients))

    def begin(client: Driven) -> bool:
        start.wait(10)
        return client.start("work", "one", "1")

    with ThreadPoolExecutor(len(clients)) as pool:
        assert list(pool.map(begin, clients)).count(True) == 1


def test_a_handler_that_asks_for_it_is_called_again_then_and_not_before(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    at = Instant(backend.clock.now() + 90_000)
    assert workflows.run_due("work", lambda call: Again(at), "w")
    assert workflows.next_due("work") == at
    backend.wait(89.999)
    assert not workflows.run_due("work", done, "w")
    backend.wait(0.001)
    assert workflows.run_due("work", done, "w")
    assert workflows.next_due("work") is None


def test_who_waited_longest_goes_first(backend: Backend, workflows: Driven) -> None:
    """No execution is starved by one that always asks for more."""
    for name in ("a", "b", "c"):
        workflows.start("work", name, "1")
    order: list[str] = []

    def handler(call: HandlerCall) -> Again:
        order.append(call.execution.execution)
        backend.wait(0.01)
        return Again(backend.clock.now())

    for _ in range(6):
        workflows.run_due("work", handler, "w")
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_a_temporary_failure_is_tried_again_with_growing_pauses_and_left_to_chance(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    pauses: list[float] = []
    for _ in range(12):
        workflows.run_due("work", raising(Unavailable("the relay sleeps")), "w")
        due = workflows.next_due("work")
        assert due is not None
        pauses.append((due - backend.clock.now()) / 1_000)
        assert not workflows.run_due("work", done, "w")
        backend.wait(pauses[-1])
    for n, pause in enumerate(pauses):
        longest = min(300, 2**n)
        assert longest / 2 <= pause <= longest
    assert len({pause / min(300, 2**n) for n, pause in enumerate(pauses)}) > 6, "chance spreads them"
    assert (get(workflows).status, get(workflows).reason) == (ExecutionStatus.RUNNING, "the relay sleeps")


@pytest.mark.parametrize("error", [LeaseLost("somebody has the batch"), Conflict("somebody changed the record")])
def test_a_call_that_went_well_ends_the_backoff(backend: Backend, workflows: Driven, error: Exception) -> None:
    workflows.start("work", "one", "1")
    for _ in range(6):
        workflows.run_due("work", raising(Unavailable("no")), "w")
        backend.wait(300)
    workflows.run_due("work", lambda call: Again(backend.clock.now()), "w")
    assert get(workflows).reason is None
    workflows.run_due("work", raising(error), "w")
    due = workflows.next_due("work")
    assert due is not None
    assert due - backend.clock.now() <= 1_000
    assert get(workflows).status is ExecutionStatus.RUNNING


def test_a_permanent_failure_ends_the_execution_with_its_reason(workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    assert workflows.run_due("work", raising(NotFound("the upload is gone")), "w")
    assert (get(workflows).status, get(workflows).reason) == (ExecutionStatus.FAILED, "the upload is gone")
    assert get(workflows).ended_at is not None
    assert not workflows.run_due("work", done, "w")
    assert workflows.restart("work", "one", "1")
    assert get(workflows).reason is None


def test_a_mistake_in_a_handler_is_raised_and_the_execution_backed_off(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    with pytest.raises(ZeroDivisionError):
        workflows.run_due("work", raising(ZeroDivisionError("oh")), "w")
    assert (get(workflows).status, get(workflows).reason) == (ExecutionStatus.RUNNING, "ZeroDivisionError: oh")
    assert not workflows.run_due("work", done, "w")
    backend.wait(1)
    assert workflows.run_due("work", done, "other")


def test_a_worker_told_to_end_gives_its_execution_back_at_once(workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    with pytest.raises(KeyboardInterrupt):
        workflows.run_due("work", raising(KeyboardInterrupt()), "w")
    assert workflows.run_due("work", done, "other")


def test_a_leased_execution_is_nobody_elses_until_the_lease_runs_out(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    other = connect(backend)
    ran: list[str] = []

    def slow(call: HandlerCall) -> Done:
        assert not other.run_due("work", done, "other")
        backend.wait(HANDLER_LEASE_MS / 1_000 - 0.001)
        assert not other.run_due("work", done, "other")
        assert other.next_due("work") == backend.clock.now() + 1
        backend.wait(0.001)
        assert other.run_due("work", lambda call: Again(Instant(backend.clock.now() + 5_000)), "other")
        with pytest.raises(LeaseLost):
            call.alive()
        ran.append("to its end")
        return Done()

    assert workflows.run_due("work", slow, "w")
    assert ran == ["to its end"]
    assert get(workflows).status is ExecutionStatus.RUNNING, "the late answer changes nothing"
    assert not workflows.run_due("work", done, "w"), "nor the other's appointment"
    backend.wait(5)
    assert workflows.run_due("work", done, "w")


@pytest.mark.parametrize("error", [Unavailable("late"), Conflict("late"), LeaseLost("late")])
def test_a_late_failure_changes_nothing(backend: Backend, workflows: Driven, error: Exception) -> None:
    workflows.start("work", "one", "1")

    def slow(call: HandlerCall) -> Done:
        backend.wait(HANDLER_LEASE_MS / 1_000)
        assert connect(backend).run_due("work", done, "other")
        raise error

    assert workflows.run_due("work", slow, "w")
    assert (get(workflows).status, get(workflows).reason) == (ExecutionStatus.SUCCEEDED, None)


def test_a_handler_that_asks_whether_it_is_alive_keeps_its_lease(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    other = connect(backend)

    def long(call: HandlerCall) -> Done:
        for _ in range(20):
            backend.wait(HANDLER_LEASE_MS / 3_000)
            assert call.alive()
            assert not other.run_due("work", done, "other")
        return Done()

    assert workflows.run_due("work", long, "w")
    assert get(workflows).status is ExecutionStatus.SUCCEEDED


@pytest.mark.backends("embedded")  # on AWS nothing proves that a function is dead
def test_a_dead_owners_lease_is_void_at_once(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    other = connect(backend)

    def dying(call: HandlerCall) -> Done:
        assert not other.run_due("work", done, "other", dead=["somebody else"])
        assert other.run_due("work", done, "other", dead=["w"])
        raise Unavailable("too late")

    assert workflows.run_due("work", dying, "w")
    assert get(workflows).status is ExecutionStatus.SUCCEEDED


def test_only_the_named_execution_is_looked_at(workflows: Driven) -> None:
    workflows.start("work", "one", "1")
    workflows.start("work", "two", "1")
    assert workflows.run_due("work", done, "w", only="two")
    assert not workflows.run_due("work", done, "w", only="two")
    assert get(workflows, "one").status is ExecutionStatus.RUNNING


def test_a_stopped_execution_hears_it_and_is_never_called_again(backend: Backend, workflows: Driven) -> None:
    workflows.start("work", "one", "1")

    def handler(call: HandlerCall) -> Again:
        assert call.alive()
        workflows.stop("work", "one", "cancelled by an operator")
        assert not call.alive()
        backend.wait(HANDLER_LEASE_MS / 3_000)
        assert not call.alive()
        return Again(backend.clock.now())

    assert workflows.run_due("work", handler, "w")
    assert (get(workflows).status, get(workflows).reason) == (ExecutionStatus.STOPPED, "cancelled by an operator")
    assert not workflows.run_due("work", done, "w")
    workflows.stop("work", "one", "again")
    workflows.stop("work", "never", "again")
    assert get(workflows).reason == "cancelled by an operator"


@pytest.mark.parametrize(
    "ending", [done, raising(Unavailable("no")), raising(NotFound("no"))], ids=["done", "temporary", "permanent"]
)
def test_a_call_of_an_earlier_run_neither_ends_nor_meets_the_new_one(
    backend: Backend, workflows: Driven, ending: Callable[[HandlerCall], Done]
) -> None:
    workflows.start("work", "one", "old")
    other = connect(backend)

    def handler(call: HandlerCall) -> Done:
        workflows.stop("work", "one", "changed our mind")
        assert other.restart("work", "one", "new")
        assert not call.alive(), "it belongs to the run that was stopped"
        assert not other.run_due("work", done, "other"), "the new run waits for it"
        return ending(call)

    assert workflows.run_due("work", handler, "w")
    assert (get(workflows).status, get(workflows).input) == (ExecutionStatus.RUNNING, "new")
    assert other.run_due("work", done, "other")
    assert get(workflows).status is ExecutionStatus.SUCCEEDED


def test_racing_workers_call_one_handler_at_a_time(backend: Backend) -> None:
    workers = [connect(backend) for _ in range(4)]
    for n in range(8):
        workers[0].start("work", f"e{n}", "1")
    inside: dict[str, int] = {}
    calls: list[str] = []
    guard = threading.Lock()

    def handler(call: HandlerCall) -> Done | Again:
        name = call.execution.execution
        with guard:
            inside[name] = inside.get(name, 0) + 1
            assert inside[name] == 1, "two handlers at once"
            calls.append(name)
            again = calls.count(name) < 3
        call.alive()
        with guard:
            inside[name] -= 1
        return Again(backend.clock.now()) if again else Done()

    def work(n: int) -> None:
        while workers[n].running("work"):
            workers[n].run_due("work", handler, f"w{n}")

    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(work, range(len(workers))))
    assert sorted(calls) == sorted(f"e{n}" for n in range(8) for _ in range(3))


def test_limits(workflows: Driven) -> None:
    for workflow, execution in (("a b", "one"), ("work", ""), ("work", "a" * 61), ("work", "a/b")):
        with pytest.raises(Invalid):
            workflows.start(workflow, execution, "1")
        with pytest.raises(Invalid):
            workflows.restart(workflow, execution, "1")
    with pytest.raises(TooLarge):
        workflows.start("work", "one", "x" * 60_001)
    assert workflows.start("work", "one", "x" * 60_000)
