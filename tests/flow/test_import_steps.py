"""A campaign imported by the functions of the state machine `import`, on an installation of one machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from postroom.entrypoints.lambdas.import_steps import ImportSteps, said
from postroom.entrypoints.lambdas.workflow import Order
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignSpec, CampaignStatus, Content
from postroom.pipeline.splitter import ParallelImport
from postroom.platform.ports.workflows import ExecutionStatus
from postroom.services.campaign_creation import CampaignParts
from postroom.settings import Settings
from postroom.wiring import Container, open_app

ROWS = 40


class Runs:
    """What was told of the workflow's end."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, int, ExecutionStatus, str | None]] = []

    def end(self, workflow: str, execution: str, run: int, state: ExecutionStatus, reason: str | None) -> None:
        self.ended.append((workflow, execution, run, state, reason))


class World:
    """An installation with one campaign that is importing, and the steps."""

    def __init__(self, postroom: Container, upload: str) -> None:
        self.postroom = postroom
        self.runs = Runs()
        steps: ParallelImport = postroom.parallel_import
        self.steps = ImportSteps(postroom, steps, self.runs)
        spec = CampaignSpec(name="test", content=Content(from_="news@example.com", subject="Hello"))
        parts = CampaignParts(html="<p>Hello</p>")
        self.ref = postroom.campaign_creator.create(
            "default", spec, parts, io.BytesIO(upload.encode()), filename="people.csv"
        ).ref

    def order(self, **more: Any) -> Order:
        event = {"workflow": "import", "execution": self.ref.campaign, "run": 2, "input": scheduler_messages.ref_input(self.ref)}
        return msgspec.convert(event | more, Order)

    def stored(self) -> None:
        """All steps but the last."""
        planned = self.steps.plan(self.order())
        assert planned["status"] == "planned"
        for key, step in ((planned["ranges"], self.steps.read), (planned["groups"], self._store)):
            for item in orjson.loads(self.postroom.objects.get(key)):
                assert step(self.order(item=item)) == {"status": "done"}

    def _store(self, order: Order) -> Any:
        return self.steps.store(order, alive=lambda: True)

    def finish(self) -> str:
        return self.steps.finish(self.order(), alive=lambda: True)["status"]

    @property
    def state(self) -> CampaignStatus:
        return self.postroom.records.get(self.ref).status


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings.load({"POSTROOM_DATA": str(tmp_path)}, None, {})) as postroom:
        yield postroom


@pytest.fixture
def world(postroom: Container) -> World:
    return World(postroom, "email\n" + "".join(f"p{number}@a.example\n" for number in range(ROWS)))


def looked_at(postroom: Container) -> list[CampaignRef]:
    """Whom the scheduler is told to look at."""
    return [
        scheduler_messages.SchedulerMessage.parse(job.body).ref
        for job in postroom.queues.receive(scheduler_messages.SCHEDULER_QUEUE, limit=10)
    ]


def test_an_import_ends_ready_with_the_scheduler_told_and_the_run_over(world: World) -> None:
    world.stored()
    assert world.finish() == "done"
    assert world.state is CampaignStatus.READY
    assert world.postroom.messages.counts(world.ref).pending == ROWS
    assert looked_at(world.postroom) == [world.ref]
    assert world.runs.ended == [("import", world.ref.campaign, 2, ExecutionStatus.SUCCEEDED, None)]
    assert world.finish() == "done"
    assert world.postroom.messages.counts(world.ref).pending == ROWS


def test_a_bad_upload_ends_at_once_and_the_run_says_why(postroom: Container) -> None:
    world = World(postroom, "name\nAnn\n")
    assert world.steps.plan(world.order())["status"] == "ended"
    assert world.finish() == "done"
    ((_, _, _, state, reason),) = world.runs.ended
    assert state is ExecutionStatus.FAILED
    assert reason is not None
    assert "No column of addresses" in reason


def test_rows_stored_after_the_cancelling_are_skipped_too(world: World) -> None:
    """Those who cancelled had counted before; whatever time there is, it comes to its end."""
    planned = world.steps.plan(world.order())
    for item in orjson.loads(world.postroom.objects.get(planned["ranges"])):
        world.steps.read(world.order(item=item))
    store = world.postroom.messages.store
    with pytest.MonkeyPatch.context() as patch:

        def cancelled_first(ref: CampaignRef, rows: Any, now: Any) -> Any:
            world.postroom.campaigns.cancel(ref)
            return store(ref, rows, now)

        patch.setattr(world.postroom.messages, "store", cancelled_first)
        assert world.steps.store(world.order(item=0), alive=lambda: True) == {"status": "done"}
    assert world.steps.finish(world.order(), alive=lambda: False) == {"status": "again"}
    assert world.runs.ended == []
    assert world.finish() == "done"
    assert world.postroom.messages.counts(world.ref).skipped == ROWS
    assert world.state is CampaignStatus.CANCELLED


def test_a_deleted_campaign_ends_the_run(world: World) -> None:
    world.postroom.campaigns.cancel(world.ref)
    world.postroom.campaigns.delete(world.ref)
    assert world.steps.plan(world.order())["status"] == "ended"
    assert world.finish() == "done"
    assert [state for _, _, _, state, _ in world.runs.ended] == [ExecutionStatus.SUCCEEDED]


def test_what_was_given_up_fails_the_campaign_with_what_the_function_said(world: World) -> None:
    world.stored()
    error = {"Error": "Unavailable", "Cause": orjson.dumps({"errorMessage": "The table is too busy.", "errorType": "U"}).decode()}
    assert world.steps.fail(world.order(error=error)) == {"status": "done"}
    assert world.finish() == "done"
    assert world.state is CampaignStatus.FAILED
    assert world.runs.ended[0][3:] == (ExecutionStatus.FAILED, "The import was given up: The table is too busy.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"Error": "States.Timeout", "Cause": ""}, "States.Timeout"),
        ({"Error": "X", "Cause": "not JSON"}, "not JSON"),
        ({"Error": "X", "Cause": "[1]"}, "[1]"),
        ({}, "unknown error"),
    ],
)
def test_what_a_state_caught_is_told_in_words(error: dict[str, str], words: str) -> None:
    assert said(error) == words
