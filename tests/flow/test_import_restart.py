"""An import that dies, stalls or doubles anywhere comes to the same end: nothing lost, nothing counted twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, NotFound, Unavailable
from postroom.model.campaign import CampaignStatus
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.platform.ports.tables import ItemKey, Put
from tests.fakes.campaigns import change_spec
from tests.fakes.faults import Faults, Killed
from tests.flow.import_home import UPLOAD, Installation, Row, expected

CHUNK = 4
ADDRESSES = [
    "a@x.example", "b@x.example", "A@x.example", "nobody",  # a chunk with a duplicate and an invalid row
    "listed@x.example", "c@x.example", "b@x.example", "d@x.example",  # a duplicate of another chunk's row
    "e@x.example", "f@x.example", "g@x.example", "h@x.example",  # nothing rejected
    "late@x.example", "a@x.example",  # a short chunk
]  # fmt: skip
ROWS = [Row(line, address) for line, address in enumerate(ADDRESSES, 2)]
WHOLE = "\n".join(["email", *ADDRESSES]).encode()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Installation]:
    """Makes an installation of its own each time."""
    numbers = count()

    def make() -> Installation:
        root = tmp_path / str(next(numbers))
        root.mkdir()
        installation = Installation(root, WHOLE)
        installation.suppress("listed@x.example")
        return installation

    return make


EFFECTS = ("put", "write", "create", "store", "recount", "purge")


def moments(fresh: Callable[[], Installation], *, effects: bool = False) -> Iterator[tuple[int, bool]]:
    """Before each call that an import makes (which is after the one before it), and after the last. `effects`: only calls that
    change something, which is all that a death can tell apart."""
    with fresh() as installation:
        faults = Faults()
        installation.run(faults, chunk=CHUNK)
    assert {"SqliteMessages.store", "FileObjects.put", "SqliteTables.write", "SqliteMessages.recount"} <= set(faults.calls)
    for at, name in enumerate(faults.calls, 1):
        if not effects or name.endswith(EFFECTS):
            yield at, False
    yield len(faults.calls), True


def assert_clean(installation: Installation) -> None:
    """What an import leaves behind: the report and the pinned decisions, nothing else."""
    assert installation.checkpoints.load(installation.ref) is None
    left = [info.key.split("/import/")[-1] for info in installation.objects.list("default/campaigns/").objects]
    assert [key for key in left if not key.startswith(("suppressed/", "default/"))] == []


def test_killed_before_or_after_any_call_it_comes_to_the_same_end(fresh: Callable[[], Installation]) -> None:
    """Even where a newer program, with chunks of another size, goes on from there."""
    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Killed):
                installation.run(Faults(at, after=after), chunk=CHUNK)
            installation.run(chunk=1 + at % (CHUNK + 4))
            assert installation.outcome() == expected(ROWS, ["listed@x.example"]), (at, after)
            assert_clean(installation)


def test_a_list_that_changes_during_the_outage_never_breaks_the_sums(fresh: Callable[[], Installation]) -> None:
    """`outcome` checks that rows = messages + report, which a decision taken twice and differently would break."""
    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Killed):
                installation.run(Faults(at, after=after), chunk=CHUNK)
            installation.suppress("a@x.example", "c@x.example", "e@x.example", "late@x.example")
            installation.suppression.remove("default", installation.key("listed@x.example"))
            installation.run(chunk=CHUNK)
            outcome = installation.outcome()
            assert set(outcome.messages) | set(outcome.rejected) == {row.line for row in ROWS}


def test_an_answer_that_is_lost_is_an_error_and_the_next_run_mends_it(fresh: Callable[[], Installation]) -> None:
    def lose() -> None:
        raise Unavailable("the store did not answer")

    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Unavailable):
                installation.run(Faults(at, after=after, happens=lose), chunk=CHUNK)
            installation.run(chunk=CHUNK)
            assert installation.outcome() == expected(ROWS, ["listed@x.example"]), (at, after)


def test_killed_again_and_again(fresh: Callable[[], Installation]) -> None:
    """Each run gets a few calls further than its start."""
    with fresh() as installation:
        for life in range(10, 200):
            try:
                installation.run(Faults(life), chunk=CHUNK)
            except Killed:
                continue
            break
        assert installation.outcome() == expected(ROWS, ["listed@x.example"])


def test_a_stalled_splitter_that_wakes_up_after_another_has_finished_changes_nothing(fresh: Callable[[], Installation]) -> None:
    """Stopped at any call, overtaken by a whole import under another list, woken: the outcome is the overtaker's."""
    for at, after in moments(fresh):
        with fresh() as installation:
            outcomes: list[object] = []

            def overtake(installation: Installation = installation, outcomes: list[object] = outcomes) -> None:
                installation.suppress("c@x.example", "e@x.example")
                installation.run(chunk=CHUNK)
                outcomes.append(installation.outcome())
                installation.suppression.remove("default", installation.key("c@x.example"))

            with suppress(Conflict, NotFound):  # loud is allowed, harm is not
                installation.run(Faults(at, after=after, happens=overtake), chunk=CHUNK)
            assert outcomes == [installation.outcome()], (at, after)


def test_two_that_take_turns_come_to_the_same_end(fresh: Callable[[], Installation]) -> None:
    """One stops at any call, another works until its own next-but-three and dies, the first goes on, a third ends it."""
    for at, after in moments(fresh):
        with fresh() as installation:

            def meddle(installation: Installation = installation, at: int = at) -> None:
                with suppress(Killed):
                    installation.run(Faults(at + 3), chunk=CHUNK)

            with suppress(Conflict, NotFound):
                installation.run(Faults(at, after=after, happens=meddle), chunk=CHUNK)
            installation.run(chunk=CHUNK)
            assert installation.outcome() == expected(ROWS, ["listed@x.example"]), (at, after)


def test_killed_for_real_again_and_again(tmp_path: Path) -> None:
    """`kill -9` of the importing process, each time a little later within a chunk; the last one is let live."""
    addresses = [f"user{number % 900}@x.example" for number in range(1_000)] + ["nobody"]
    with Installation(tmp_path, "\n".join(["email", *addresses]).encode()) as installation:
        for life in (3, 13, 1, 2, 1, 3, None):
            command = [sys.executable, "-m", "tests.flow.import_home", str(tmp_path), installation.ref.campaign, "100"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                for _ in range(life or 0):
                    assert process.stdout.readline() == b"alive\n"
                if life is not None:
                    process.kill()
                process.stdout.read()
                assert process.wait(timeout=60) == (0 if life is None else -signal.SIGKILL)
        assert installation.outcome() == expected([Row(line, address) for line, address in enumerate(addresses, 2)])


def test_chunks_that_end_by_their_values_survive_a_kill_anywhere(fresh: Callable[[], Installation]) -> None:
    """The one after goes on at the very row where the limit ended the one before, whatever limit it knows itself."""
    with fresh() as installation:
        calls = Faults()
        installation.run(calls, chunk_bytes=5)
        assert calls.calls.count("SqliteMessages.store") == 5  # 12 messages of the values `[]`, three of them fill it
    for at, name in enumerate(calls.calls, 1):
        if name.endswith(EFFECTS):
            with fresh() as installation:
                with pytest.raises(Killed):
                    installation.run(Faults(at), chunk_bytes=5)
                installation.run()
                assert installation.outcome() == expected(ROWS, ["listed@x.example"]), at
                assert_clean(installation)


def test_a_plan_from_before_the_limit_has_none(fresh: Callable[[], Installation]) -> None:
    """A chunk that an older program began is read to the row where that would have ended it."""
    with fresh() as installation:
        answers = iter([True] * 5 + [False])
        installation.splitter(chunk=CHUNK).run(installation.ref, alive=lambda: next(answers))
        key = ItemKey("default#imports", installation.ref.campaign)
        item = installation.tables.get(key)
        assert item is not None
        del item.data["plan"]["chunk_bytes"]
        installation.tables.write([Put(key, item.data, item.version)])
        calls = Faults()
        installation.run(calls, chunk_bytes=1)
        assert calls.calls.count("SqliteMessages.store") == 3
        assert installation.outcome() == expected(ROWS, ["listed@x.example"])


def test_it_stops_at_a_chunk_when_told_and_goes_on_from_there(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        answers = iter([True, True, True, True, True, True, False])  # 4 chunks planned, 2 stored, then no more
        installation.splitter(chunk=CHUNK).run(installation.ref, alive=lambda: next(answers))
        assert installation.campaign.status is CampaignStatus.IMPORTING
        checkpoint = installation.checkpoints.load(installation.ref)
        assert checkpoint is not None
        assert (checkpoint.sums.rows, checkpoint.plan.rows) == (2 * CHUNK, len(ROWS))
        faults = Faults()
        installation.run(faults, chunk=CHUNK)
        assert faults.calls.count("SqliteMessages.store") == 2
        assert installation.outcome() == expected(ROWS, ["listed@x.example"])


def test_the_checkpoint_only_moves_forward(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        answers = iter([True] * 6 + [False])
        installation.splitter(chunk=CHUNK).run(installation.ref, alive=lambda: next(answers))
        checkpoint = installation.checkpoints.load(installation.ref)
        assert checkpoint is not None
        assert installation.checkpoints.begin(installation.ref, replace(checkpoint.plan, rows=1)) == checkpoint
        assert installation.checkpoints.save(installation.ref, replace(checkpoint, chunks=checkpoint.chunks - 1))
        assert installation.checkpoints.load(installation.ref) == checkpoint
        installation.checkpoints.forget(installation.ref)
        assert not installation.checkpoints.save(installation.ref, checkpoint)
        assert installation.checkpoints.load(installation.ref) is None


def test_a_cancelled_campaign_is_left_cancelled(fresh: Callable[[], Installation]) -> None:
    for at, after in moments(fresh):
        with fresh() as installation:

            def cancel(installation: Installation = installation) -> None:
                if installation.campaign.status is CampaignStatus.IMPORTING:
                    installation.campaigns.transition(installation.campaign, CampaignStatus.CANCELLED, reason="changed my mind")

            installation.run(Faults(at, after=after, happens=cancel), chunk=CHUNK)
            assert installation.campaign.status in {CampaignStatus.CANCELLED, CampaignStatus.READY}
            installation.run(chunk=CHUNK)
            assert_clean(installation)


def test_a_change_of_the_campaign_meanwhile_is_kept(fresh: Callable[[], Installation]) -> None:
    for at, after in moments(fresh):
        with fresh() as installation:

            def rename(installation: Installation = installation) -> None:
                change_spec(installation.campaigns, installation.campaign, name="renamed")

            installation.run(Faults(at, after=after, happens=rename), chunk=CHUNK)
            assert installation.campaign.spec.name == "renamed"
            assert installation.outcome() == expected(ROWS, ["listed@x.example"])


def test_an_upload_that_is_replaced_meanwhile_is_read_as_it_was(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        answers = iter([True] * 5 + [False])
        installation.splitter(chunk=CHUNK).run(installation.ref, alive=lambda: next(answers))
        installation.objects.put(UPLOAD, b"email\nother@x.example\n")
        installation.run(chunk=CHUNK)
        assert installation.outcome() == expected(ROWS, ["listed@x.example"])


def test_an_upload_that_is_gone_fails_the_campaign_with_the_reason(fresh: Callable[[], Installation]) -> None:
    for rounds in (0, 5):
        with fresh() as installation:
            answers = iter([True] * rounds + [False])
            installation.splitter(chunk=CHUNK).run(installation.ref, alive=lambda: next(answers))  # noqa: B023
            installation.objects.purge(UPLOAD)
            installation.run(chunk=CHUNK)
            assert installation.campaign.status is CampaignStatus.FAILED
            assert "recipients.csv is gone" in (installation.campaign.reason or "")


def test_a_ledger_that_does_not_add_up_is_an_error(fresh: Callable[[], Installation]) -> None:
    """A message that came from nowhere: the campaign fails, loudly."""
    with fresh() as installation, fresh() as other:
        other.run()
        stranger = other.messages.list(other.ref, limit=1).messages[0]

        def smuggle() -> None:
            row = MessageRow(0, Key(b"stranger-000"), 999, stranger.address, None, "[]")
            installation.messages.store(installation.ref, [row], installation.clock.now())

        calls = Faults()
        with fresh() as measured:
            measured.run(calls, chunk=CHUNK)
        at = calls.calls.index("SqliteMessages.recount") + 1
        with pytest.raises(Corrupt, match="does not add up"):
            installation.run(Faults(at, happens=smuggle), chunk=CHUNK)
        assert installation.campaign.status is CampaignStatus.FAILED
        assert "does not add up" in (installation.campaign.reason or "")
