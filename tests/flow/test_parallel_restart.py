"""Steps of an import that die, stall or double anywhere come to the same end: nothing lost, nothing counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, NotFound, Unavailable
from postroom.model.campaign import CampaignStatus
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.checkpoint import GroupCheckpoints, GroupProgress, ImportTotals
from postroom.pipeline.splitter.exchange import Exchange, pack_range
from postroom.pipeline.splitter.plan import ImportSizes, UploadRange
from postroom.recipients_file.rows import Reject, Rows
from tests.fakes.faults import Faults, Killed
from tests.flow.import_home import UPLOAD, Installation, expected
from tests.flow.test_import_restart import EFFECTS, ROWS, WHOLE
from tests.flow.test_parallel_import import assert_clean

SIZES = ImportSizes(range_rows=5, group_batches=1, chunk_rows=4)
OTHER_SIZES = ImportSizes(range_rows=3, group_batches=2, chunk_rows=100)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that fourteen rows are three batches, each a group."""
    monkeypatch.setattr("postroom.model.batch.BATCH_SIZE", 5)


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


def moments(fresh: Callable[[], Installation], *, effects: bool = False) -> Iterator[tuple[int, bool]]:
    """Before each call that an import makes (which is after the one before it), and after the last. `effects`: only calls that
    change something, which is all that a death can tell apart."""
    with fresh() as installation:
        faults = Faults()
        installation.run_parallel(faults, sizes=SIZES)
    assert {"SqliteMessages.store", "FileObjects.put", "SqliteTables.write", "SqliteMessages.recount"} <= set(faults.calls)
    for at, name in enumerate(faults.calls, 1):
        if not effects or name.endswith(EFFECTS):
            yield at, False
    yield len(faults.calls), True


@cache
def whole() -> object:
    return expected(ROWS, ["listed@x.example"])


def test_killed_before_or_after_any_call_it_comes_to_the_same_end(fresh: Callable[[], Installation]) -> None:
    """Even where a newer program, with other sizes, goes on from there."""
    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Killed):
                installation.run_parallel(Faults(at, after=after), sizes=SIZES)
            installation.run_parallel(sizes=OTHER_SIZES if at % 2 else SIZES)
            assert installation.outcome() == whole(), (at, after)
            assert_clean(installation)


def test_a_list_that_changes_during_the_outage_never_breaks_the_sums(fresh: Callable[[], Installation]) -> None:
    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Killed):
                installation.run_parallel(Faults(at, after=after), sizes=SIZES)
            installation.suppress("a@x.example", "c@x.example", "e@x.example", "late@x.example")
            installation.suppression.remove("default", installation.key("listed@x.example"))
            installation.run_parallel(sizes=SIZES)
            outcome = installation.outcome()
            assert set(outcome.messages) | set(outcome.rejected) == {row.line for row in ROWS}


def test_an_answer_that_is_lost_is_an_error_and_the_step_taken_again_mends_it(fresh: Callable[[], Installation]) -> None:
    def lose() -> None:
        raise Unavailable("the store did not answer")

    for at, after in moments(fresh, effects=True):
        with fresh() as installation:
            with pytest.raises(Unavailable):
                installation.run_parallel(Faults(at, after=after, happens=lose), sizes=SIZES)
            installation.run_parallel(sizes=SIZES)
            assert installation.outcome() == whole(), (at, after)


def test_a_step_that_wakes_up_after_others_have_finished_changes_nothing(fresh: Callable[[], Installation]) -> None:
    """Stopped at any call, overtaken by a whole import under another list, woken: the outcome is the overtaker's."""
    for at, after in moments(fresh):
        with fresh() as installation:
            outcomes: list[object] = []

            def overtake(installation: Installation = installation, outcomes: list[object] = outcomes) -> None:
                installation.suppress("c@x.example", "e@x.example")
                installation.run_parallel(sizes=SIZES)
                outcomes.append(installation.outcome())
                installation.suppression.remove("default", installation.key("c@x.example"))

            with suppress(Conflict):  # loud is allowed, harm is not
                installation.run_parallel(Faults(at, after=after, happens=overtake), sizes=SIZES)
            assert outcomes == [installation.outcome()], (at, after)


def test_two_that_take_turns_come_to_the_same_end(fresh: Callable[[], Installation]) -> None:
    """One stops at any call, another works until its own next-but-three and dies, the first goes on, a third ends it."""
    for at, after in moments(fresh):
        with fresh() as installation:

            def meddle(installation: Installation = installation, at: int = at) -> None:
                with suppress(Killed):
                    installation.run_parallel(Faults(at + 3), sizes=OTHER_SIZES)

            with suppress(Conflict, NotFound):
                installation.run_parallel(Faults(at, after=after, happens=meddle), sizes=SIZES)
            installation.run_parallel(sizes=SIZES)
            assert installation.outcome() == whole(), (at, after)
            assert_clean(installation)


def test_a_cancelled_campaign_is_left_cancelled_and_swept(fresh: Callable[[], Installation]) -> None:
    for at, after in moments(fresh):
        with fresh() as installation:

            def cancel(installation: Installation = installation) -> None:
                if installation.campaign.status is CampaignStatus.IMPORTING:
                    installation.campaigns.transition(installation.campaign, CampaignStatus.CANCELLED, reason="changed my mind")

            installation.run_parallel(Faults(at, after=after, happens=cancel), sizes=SIZES)
            assert installation.campaign.status in {CampaignStatus.CANCELLED, CampaignStatus.READY}
            assert_clean(installation)


def test_a_deleted_campaign_ends_every_step_quietly(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        steps = installation.parallel(sizes=SIZES)
        installation.campaigns.transition(installation.campaign, CampaignStatus.CANCELLED, reason="changed my mind")
        installation.campaigns.delete(installation.ref)
        assert steps.plan(installation.ref) is None
        assert steps.read(installation.ref, UploadRange(0, 0, 10, 1, 1)) is None
        assert steps.store(installation.ref, 0, alive=lambda: True) is None
        steps.finish(installation.ref)
        steps.fail(installation.ref, "too late")


def test_a_group_stops_between_chunks_when_told_and_goes_on_from_there(
    fresh: Callable[[], Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.model.batch.BATCH_SIZE", 500)
    with fresh() as installation:
        steps = installation.parallel(sizes=SIZES)
        division = steps.plan(installation.ref)
        assert division is not None
        for part in installation.listed(division.ranges_key, list[UploadRange]):
            steps.read(installation.ref, part)
        answers = iter([True, False])
        assert steps.store(installation.ref, 0, alive=lambda: next(answers)) is False
        with pytest.raises(Conflict, match="not every group"):
            steps.finish(installation.ref)
        faults = Faults()
        assert installation.parallel(faults, sizes=SIZES).store(installation.ref, 0, alive=lambda: True) is True
        assert faults.calls.count("SqliteMessages.store") == 2  # of three
        again = Faults()
        assert installation.parallel(again, sizes=SIZES).store(installation.ref, 0, alive=lambda: True) is True
        assert not any(name.endswith(EFFECTS) for name in again.calls)
        steps.finish(installation.ref)
        assert installation.outcome() == whole()


def test_an_upload_that_is_gone_fails_the_campaign_with_the_reason(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        steps = installation.parallel(sizes=SIZES)
        division = steps.plan(installation.ref)
        assert division is not None
        ranges = installation.listed(division.ranges_key, list[UploadRange])
        installation.objects.purge(UPLOAD)
        assert steps.read(installation.ref, ranges[0]) is None
        assert installation.campaign.status is CampaignStatus.FAILED
        assert "recipients.csv is gone" in (installation.campaign.reason or "")
        steps.finish(installation.ref)
        assert_clean(installation)


def test_an_upload_that_is_replaced_meanwhile_is_read_as_it_was(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        installation.parallel(sizes=SIZES).plan(installation.ref)
        installation.objects.put(UPLOAD, b"email\nother@x.example\n")
        installation.run_parallel(sizes=SIZES)
        assert installation.outcome() == whole()


def test_a_range_that_was_not_read_or_does_not_hold_its_rows_is_an_error(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        steps = installation.parallel(sizes=SIZES)
        division = steps.plan(installation.ref)
        assert division is not None
        with pytest.raises(NotFound):
            steps.store(installation.ref, 0, alive=lambda: True)
        first, *_ = installation.listed(division.ranges_key, list[UploadRange])
        with pytest.raises(Corrupt, match="has 5 rows from line 1 on, not 4"):
            steps.read(installation.ref, UploadRange(first.number, first.start, first.end, first.line, 4))
        assert installation.campaign.status is CampaignStatus.FAILED


def test_a_ledger_that_does_not_add_up_is_an_error(fresh: Callable[[], Installation]) -> None:
    """A message that came from nowhere: the campaign fails, loudly."""
    with fresh() as installation, fresh() as other:
        other.run_parallel(sizes=SIZES)
        stranger = other.messages.list(other.ref, limit=1).messages[0]

        def smuggle() -> None:
            row = MessageRow(0, Key(b"stranger-000"), 999, stranger.address, None, "[]")
            installation.messages.store(installation.ref, [row], installation.clock.now())

        calls = Faults()
        with fresh() as measured:
            measured.run_parallel(calls, sizes=SIZES)
        at = calls.calls.index("SqliteMessages.recount") + 1
        with pytest.raises(Corrupt, match="does not add up"):
            installation.run_parallel(Faults(at, happens=smuggle), sizes=SIZES)
        assert installation.campaign.status is CampaignStatus.FAILED
        installation.parallel().finish(installation.ref)
        assert_clean(installation)


def test_what_failed_too_often_fails_the_campaign_with_the_reason(fresh: Callable[[], Installation]) -> None:
    with fresh() as installation:
        installation.parallel(sizes=SIZES).plan(installation.ref)
        installation.parallel(sizes=SIZES).fail(installation.ref, "the table refused every write")
        assert installation.campaign.reason == "the table refused every write"
        assert installation.campaign.status is CampaignStatus.FAILED
        installation.parallel().finish(installation.ref)
        assert_clean(installation)


def test_a_mark_only_moves_forward(fresh: Callable[[], Installation]) -> None:
    """One who was late saves what was long done."""
    with fresh() as installation:
        marks = GroupCheckpoints(installation.tables, installation.clock)
        further = GroupProgress(2, 3, ImportTotals(9), counted=True)
        marks.save(installation.ref, 0, further)
        for older in (GroupProgress(1, 2, ImportTotals(4)), GroupProgress(2, 3, ImportTotals(9))):
            marks.save(installation.ref, 0, older)
            assert marks.load(installation.ref, 0) == further


def test_what_a_step_handed_on_stands_whoever_hands_on_something_else(fresh: Callable[[], Installation]) -> None:
    """A newer program may read a row in another way: others have read what the older one made of it."""
    with fresh() as installation:
        exchange = Exchange(installation.objects, installation.ref)
        for reason in ("first", "second"):
            exchange.put_range(0, pack_range(Rows([], [Reject(2, "a", reason, "")]), lambda batch: batch, 1))
            exchange.put_rejects(0, 0, [Reject(3, "b", reason, "")])
        rejects = [*exchange.rejects_of_range(0), *exchange.rejects_of_group(0, 1)]
        assert [reject.reason for reject in rejects] == ["first", "first"]
