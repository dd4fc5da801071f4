"""What becomes of a group that a lost worker left open: settled exactly as far as its journal proves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.batches import UNANSWERED, UNCERTAIN, BatchLeases, in_doubt
from postroom.model.batch import OpenBatch
from postroom.model.campaign import CampaignRef, Policies, UnknownPolicy
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.platform.embedded.journal import FileJournal
from postroom.platform.ports.journal import JournalPage
from tests.fakes.ledger import Bench, bench

LEASE_MS = 10_000
NEVER_TWICE = Policies()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def _batches(made: Bench) -> BatchLeases:
    return BatchLeases(made.messages, made.journals, made.clock, lease_ms=LEASE_MS)


def _open(
    made: Bench, ref: CampaignRef, owner: str = "next", *, policies: Policies = NEVER_TWICE, wait: bool = True
) -> OpenBatch | None:
    """Open batch 0 and settle what was left open; None: it is held, or its owner is being waited for."""
    batches = _batches(made)
    opened = batches.open(ref, 0, owner)
    if opened is None or not batches.settle_left_open(ref, opened, policies, wait=wait):
        return None
    return opened


def _left_open(made: Bench, ref: CampaignRef) -> tuple[FileJournal, list[Recipient], JournalPage]:
    """A worker opens batch 0 and its group, hands over the first two, hears of the first, and goes no further."""
    journal = made.journals.begin(ref.campaign)
    batches = _batches(made)
    opened = batches.open(ref, 0, journal.owner)
    assert opened is not None
    group = made.messages.load(ref, 0, made.clock.now(), 128)
    batches.record(ref, opened, [], group)
    page = journal.page(0, opened.fence)
    page.handing(group[0].key)
    page.handing(group[1].key)
    page.answered(Settlement(group[0].key, MessageStatus.SENT, 1, made.clock.now(), None, 250, "ok", "id"))
    return journal, group, page


def _states(made: Bench, ref: CampaignRef, members: list[Recipient]) -> list[MessageStatus]:
    return [found.status for found in (made.messages.get(ref, 0, member.key) for member in members) if found is not None]


def test_of_a_dead_worker_only_what_was_in_flight_is_unknown(made: Bench) -> None:
    ref = made.campaign(people=40).ref
    journal, group, _ = _left_open(made, ref)
    journal.close()  # what a kill does: the lock is free, the page stays
    assert _open(made, ref) is not None
    assert _states(made, ref, group) == [MessageStatus.SENT, MessageStatus.UNKNOWN] + [MessageStatus.PENDING] * (len(group) - 2)
    unknown = made.messages.get(ref, 0, group[1].key)
    assert unknown is not None
    assert (unknown.attempt, unknown.reply, unknown.due) == (1, UNANSWERED, None)


def test_a_dead_worker_s_lease_need_not_run_out(made: Bench) -> None:
    ref = made.campaign().ref
    journal, _, _ = _left_open(made, ref)
    assert _open(made, ref) is None
    assert _batches(made).claim(ref, "next", 10) == [1]
    journal.close()
    assert _batches(made).claim(ref, "next", 10) == [0, 1]


def test_a_stopped_worker_is_waited_for_and_then_its_whole_group_is_unknown(made: Bench) -> None:
    ref = made.campaign(people=40).ref
    _, group, _ = _left_open(made, ref)
    made.clock.advance(LEASE_MS / 1000 + 1)
    assert _open(made, ref) is None
    assert set(_states(made, ref, group)) == {MessageStatus.PENDING}
    assert _open(made, ref, wait=False) is not None
    assert set(_states(made, ref, group)) == {MessageStatus.UNKNOWN}
    first = made.messages.get(ref, 0, group[0].key)
    assert first is not None
    assert first.reply == UNCERTAIN


@pytest.mark.parametrize("ending", ["killed", "sealed"])
def test_a_stopped_worker_that_dies_or_wakes_meanwhile_leaves_only_what_was_in_flight(made: Bench, ending: str) -> None:
    ref = made.campaign(people=40).ref
    journal, group, page = _left_open(made, ref)
    made.clock.advance(LEASE_MS / 1000 + 1)
    assert _open(made, ref) is None
    if ending == "killed":
        journal.close()
    else:  # it looked at the time, found its lease lost, and let go
        page.seal()
    assert _open(made, ref) is not None
    assert _states(made, ref, group) == [MessageStatus.SENT, MessageStatus.UNKNOWN] + [MessageStatus.PENDING] * (len(group) - 2)


def test_under_never_missed_the_unknown_are_due_again(made: Bench) -> None:
    ref = made.campaign(people=40).ref
    journal, group, _ = _left_open(made, ref)
    journal.close()
    never_missed = Policies(unknown=UnknownPolicy.NEVER_MISSED, settle_after_ms=5_000)
    assert _open(made, ref, policies=never_missed) is not None
    made.clock.advance(6)
    due = {recipient.key: recipient for recipient in made.messages.load(ref, 0, made.clock.now(), 128)}
    assert due[group[1].key].status is MessageStatus.UNKNOWN
    assert due[group[1].key].attempt == 1
    assert group[0].key not in due


def test_whoever_settled_a_group_and_died_leaves_it_settled(made: Bench) -> None:
    ref = made.campaign(people=40).ref
    journal, group, _ = _left_open(made, ref)
    journal.close()
    second = made.journals.begin(ref.campaign)
    assert _open(made, ref, second.owner) is not None
    made.clock.advance(LEASE_MS / 1000 + 1)
    before = _states(made, ref, group)
    assert _open(made, ref, "third") is not None
    assert _states(made, ref, group) == before


@pytest.mark.parametrize(
    ("state", "due", "doubtful"),
    [
        (MessageStatus.PENDING, None, True),
        (MessageStatus.DEFERRED, 99, True),  # due when the group was opened: this attempt is not recorded
        (MessageStatus.UNKNOWN, 100, True),
        (MessageStatus.DEFERRED, 101, False),  # put off by the group's own attempt
        (MessageStatus.UNKNOWN, 101, False),
        (MessageStatus.UNKNOWN, None, False),
        (MessageStatus.SENT, None, False),
        (MessageStatus.SKIPPED, None, False),
    ],
)
def test_an_outcome_that_its_owner_recorded_is_not_doubted(state: MessageStatus, due: int | None, doubtful: bool) -> None:
    """On DynamoDB a crash may leave outcomes recorded and the group open."""
    member = Recipient(Key(b"k" * 12), 2, "a@example.com", None, "[]", state, 1, None if due is None else Instant(due))
    assert in_doubt(member, Instant(100)) is doubtful


def test_a_clock_set_back_does_not_make_a_group_look_recorded(made: Bench) -> None:
    """The group was opened for somebody who was due by then, whatever the clock says afterwards."""
    ref = made.campaign(people=10, batches=1).ref
    batches = _batches(made)
    owner = made.journals.begin(ref.campaign)
    opened = batches.open(ref, 0, owner.owner)
    assert opened is not None
    first, *_ = made.messages.load(ref, 0, made.clock.now(), 128)
    due = Instant(made.clock.now() + 60_000)
    batches.record(ref, opened, [Settlement(first.key, MessageStatus.DEFERRED, 1, made.clock.now(), due)], ())
    (deferred,) = [each for each in made.messages.load(ref, 0, due, 128) if each.key == first.key]
    batches.record(ref, opened, [], [deferred])  # the clock reads a minute less than when it was loaded
    taken = made.messages.open(ref, 0, "next", due, lease_ms=LEASE_MS, dead=[owner.owner])
    assert taken is not None
    assert taken.left_open is not None
    assert in_doubt(deferred, taken.left_open.at)
