"""A campaign sent by the functions of the state machines `send` and `stream`, on an installation of one machine."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from postroom.clock import Instant
from postroom.entrypoints.lambdas.send_steps import CYCLES_PER_RUN, Looked, SendSteps
from postroom.entrypoints.lambdas.workflow import Order
from postroom.entrypoints.server.worker import WorkflowLoop, import_handler
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import CampaignCompletion
from postroom.model.campaign import CampaignRef, CampaignSpec, CampaignStatus, Content, Policies
from postroom.pipeline.sender.dispatch import MAX_SHARD_BATCHES, Dispatch, Next, functions_for, split_into_shards
from postroom.pipeline.sender.rate_gate import ThrottleFeedback
from postroom.pipeline.sender.run import AssignedBatches
from postroom.platform.ports.rates import RateLimit
from postroom.services.campaign_creation import CampaignParts
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.flow.test_import_steps import Runs

ROWS = 1_200
"""Of three batches."""
_LONG_S = 600.0


class World:
    """An installation with one campaign that is sending, and the steps."""

    def __init__(self, postroom: Container, sink: SmtpSink, rows: int) -> None:
        self.postroom = postroom
        self.sink = sink
        self.runs = Runs()
        self.steps = SendSteps(postroom, postroom.dispatch, self.runs)
        spec = CampaignSpec(
            name="test", content=Content(from_="news@shop.example", subject="Hello"), policies=Policies(retry_after_ms=1_000)
        )
        parts = CampaignParts(html="<p>Hello</p>")
        upload = "email\n" + "".join(f"p{n}@example.com\n" for n in range(rows))
        self.ref = postroom.campaign_creator.create(
            "default", spec, parts, io.BytesIO(upload.encode()), filename="people.csv"
        ).ref
        WorkflowLoop(
            postroom, scheduler_messages.IMPORT, import_handler(postroom, threading.Event()), owner="test", group="test"
        ).once()
        postroom.scheduler.look(self.ref)
        assert self.state is CampaignStatus.SENDING

    @property
    def state(self) -> CampaignStatus:
        return self.postroom.records.get(self.ref).status

    def order(self, **more: Any) -> Order:
        event = {
            "workflow": scheduler_messages.SEND,
            "execution": self.ref.campaign,
            "run": 3,
            "input": scheduler_messages.ref_input(self.ref),
        }
        return msgspec.convert(event | more, Order)

    def look(self, number: int = 0) -> Looked:
        return self.steps.look(self.order(), number)

    def portions(self, looked: Looked) -> list[list[int]]:
        portions: list[list[int]] = orjson.loads(self.postroom.objects.get(looked["list"]))
        return portions

    def send(self, looked: Looked, *, left_s: float = _LONG_S) -> list[int]:
        return [self.steps.send(self.order(item=portion), lambda: left_s)["left"] for portion in self.portions(looked)]

    def received(self) -> Counter[str]:
        return Counter(self.sink.recipients())

    def counts(self) -> dict[str, int]:
        counts = self.postroom.messages.counts(self.ref).as_dict()
        return {state: count for state, count in counts.items() if count}


@contextmanager
def world(root: Path, *rules: Rule, rows: int = ROWS) -> Iterator[World]:
    with SmtpSink(list(rules), Options()) as sink:
        ours = {"DATA": str(root / "data"), "MAIL": f"smtp://127.0.0.1:{sink.port}?tls=none&connections=4", "LEASE": "2"}
        with open_app(Settings.load({f"POSTROOM_{name}": value for name, value in ours.items()}, None, {})) as opened:
            yield World(opened, sink, rows)


def _rounds(w: World, *, used_up: Instant | None) -> Dispatch:
    postroom = w.postroom
    finish = CampaignCompletion(postroom.records, postroom.messages)
    return Dispatch(
        postroom.records,
        postroom.messages,
        postroom.objects,
        finish,
        rate=lambda _: 10.0,
        used_up=lambda _: used_up,
        most=50,
        clock=postroom.clock,
    )


def _mistaken(*_: object) -> list[int]:
    raise KeyError("nothing has this name")


def test_rounds_send_a_campaign_to_everybody_once_and_end_it(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        looked = w.look()
        assert (looked["next"], looked["number"]) == ("send", 1)
        batches = [number for portion in w.portions(looked) for number in portion]
        assert sorted(batches) == [0, 1, 2], "each in one portion"
        assert looked["portions"] == len(w.portions(looked)) == 3
        assert w.send(looked) == [0] * 3
        assert w.look(1)["next"] == "end"
        assert w.state is CampaignStatus.COMPLETED
        assert w.runs.ended[0][2:4] == (3, "succeeded")
        assert w.received() == Counter(f"p{n}@example.com" for n in range(ROWS))


def test_two_functions_with_the_same_portion_send_it_once(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        looked = w.look()
        twice = [threading.Thread(target=w.send, args=(looked,)) for _ in range(2)]
        for each in twice:
            each.start()
        for each in twice:
            each.join()
        while w.look(1)["next"] == "send":  # who was second left what it could not open
            w.send(w.look(1))
        assert max(w.received().values()) == 1
        assert len(w.received()) == ROWS


def test_a_recipient_refused_for_now_is_waited_for(tmp_path: Path) -> None:
    with world(tmp_path, Rule("rcpt", "reply", code=450, text="4.2.1 later", to="p7@*", first=1), rows=20) as w:
        w.send(w.look())
        waiting = w.look(1)
        assert waiting["next"] == "wait"
        assert waiting["until"].endswith("Z")
        assert w.counts() == {"sent": 19, "deferred": 1}


def test_a_function_that_is_out_of_time_leaves_nobody_in_doubt_and_the_rest_to_the_next(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        first = w.look()
        w.send(first, left_s=0.0)
        assert w.counts().get("unknown", 0) == 0
        again = w.look(1)
        assert again["next"] == "send"
        w.send(again)
        assert w.look(2)["next"] == "end"
        assert max(w.received().values()) == 1
        assert len(w.received()) == ROWS


def test_a_paused_campaign_ends_the_run_and_sends_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        looked = w.look()
        w.postroom.records.transition(w.postroom.records.get(w.ref), CampaignStatus.PAUSED, reason="enough")
        w.send(looked)
        assert not w.received()
        assert w.look(1)["next"] == "end"


def test_what_a_campaign_cannot_go_on_with_pauses_it_with_the_reason(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        looked = w.look()
        for item in w.postroom.objects.list(f"default/campaigns/{w.ref.campaign}/").objects:
            if "rounds" not in item.key:
                w.postroom.objects.purge(item.key)
        w.send(looked)
        campaign = w.postroom.records.get(w.ref)
        assert campaign.status is CampaignStatus.PAUSED
        assert campaign.reason


def test_a_mistake_of_ours_pauses_the_campaign_and_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the machine would call again for as long as the campaign is sending."""
    with world(tmp_path, rows=10) as w:
        looked = w.look()
        monkeypatch.setattr(AssignedBatches, "due", _mistaken)
        with pytest.raises(KeyError):
            w.send(looked)
        reason = w.postroom.records.get(w.ref).reason or ""
        assert reason.startswith("an error in Postroom, KeyError")
        assert w.look(1)["next"] == "end"


def test_a_day_that_is_used_up_is_waited_for_by_the_machine_and_not_by_functions(tmp_path: Path) -> None:
    with world(tmp_path, rows=10) as w:
        now = w.postroom.clock.now()
        for until, expected in ((now + 60_000, now + 60_000), (now + 20 * 3_600_000, now + 3_600_000)):
            found = _rounds(w, used_up=Instant(until)).look(w.ref, "1")
            assert found.next is Next.WAIT
            assert abs(found.until - expected) < 5_000, "an hour at most: a person may allow more"
        assert _rounds(w, used_up=None).look(w.ref, "1").next is Next.SEND


def test_a_used_up_day_is_seen_in_the_providers_buckets(tmp_path: Path) -> None:
    with world(tmp_path, rows=10) as w:
        campaign, rates, now = w.postroom.records.get(w.ref), w.postroom.stores.rates, w.postroom.clock.now()
        sender = w.postroom.sender
        sender.rate(campaign)
        assert sender.used_up(campaign) is None
        (bucket,) = sender._routes("default", campaign.spec.provider).bulk_buckets()
        rates.limit(bucket, RateLimit(per_day=1))
        rates.reserve(bucket, 1, now)
        assert (sender.used_up(campaign) or 0) > now


def test_a_throttle_answer_counts_all_functions_of_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def noted(*args: Any, workers: int) -> ThrottleFeedback:
        told.append(workers)
        return ThrottleFeedback(*args, workers=workers)

    monkeypatch.setattr("postroom.pipeline.sender.worker.ThrottleFeedback", noted)
    with world(tmp_path, rows=10) as w:
        looked = w.look()
        (portion,) = w.portions(looked)
        w.steps.send(w.order(item=portion, beside=7), lambda: _LONG_S)
    assert told == [7]


def test_a_portion_fits_an_item_of_a_map() -> None:
    """256 KB, with what the run is about."""
    assert len(orjson.dumps(list(range(10**7, 10**7 + MAX_SHARD_BATCHES)))) < 256_000 / 4


def test_a_long_campaign_goes_on_in_a_new_run(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        assert w.look(CYCLES_PER_RUN)["next"] == "end"
        assert w.runs.ended
        assert w.state is CampaignStatus.SENDING
        running = w.postroom.workflows.get(scheduler_messages.SEND, w.ref.campaign)
        assert running is not None


def test_a_deleted_campaign_ends_the_run(tmp_path: Path) -> None:
    with world(tmp_path, rows=10) as w:
        stranger = CampaignRef("default", "aaaaaaaaaaaaaaaa")
        assert w.steps.look(w.order(input=scheduler_messages.ref_input(stranger)), 0)["next"] == "end"


def test_killed_between_a_list_and_its_sending_the_next_look_finds_all(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.look()
        again = w.look()
        assert sorted(number for portion in w.portions(again) for number in portion) == [0, 1, 2]


@pytest.mark.parametrize(
    ("rate", "functions"), [(None, 10), (14.0, 1), (150.0, 1), (151.0, 2), (1_000.0, 7), (100_000.0, 50), (0.1, 1)]
)
def test_as_many_functions_as_the_rate_needs(rate: float | None, functions: int) -> None:
    assert functions_for(rate, 50) == functions


@pytest.mark.parametrize(("batches", "functions", "sizes"), [(5, 2, [3, 2]), (2, 10, [1, 1]), (20_000, 50, [400] * 50)])
def test_portions_are_nearly_equal_and_never_empty(batches: int, functions: int, sizes: list[int]) -> None:
    portions = list(split_into_shards(range(batches), functions))
    assert [len(portion) for portion in portions] == sizes
    assert sorted(number for portion in portions for number in portion) == list(range(batches))


def test_a_run_of_the_machine_stays_far_below_its_history() -> None:
    """Ten events a round, and what begins and ends it: 25,000 is AWS's limit."""
    assert CYCLES_PER_RUN * 12 < 25_000 / 2
