"""What becomes of a group that a lost worker left open: settled exactly as far as its journal proves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.batches import UNANSWERED, UNCERTAIN, Batches, in_doubt
from postroom.model.batch import OpenBatch
from postroom.model.campaign import Home, Policies, UnknownPolicy
from postroom.model.message import MessageState, Recipient, Settlement
from postroom.model.shard import Key
from postroom.platform.embedded.journal import FileJournal
from postroom.platform.ports.journal import Page
from tests.fakes.ledger import Bench, bench

LEASE_MS = 10_000
NEVER_TWICE = Policies()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def _batches(made: Bench) -> Batches:
    return Batches(made.messages, made.journals, made.clock, lease_ms=LEASE_MS)


def _open(
    made: Bench, home: Home, owner: str = "next", *, policies: Policies = NEVER_TWICE, wait: bool = True
) -> OpenBatch | None:
    """Open batch 0 and settle what was left open; None: it is held, or its owner is being waited for."""
    batches = _batches(made)
    opened = batches.open(home, 0, owner)
    if opened is None or not batches.settle_left_open(home, opened, policies, wait=wait):
        return None
    return opened


def _left_open(made: Bench, home: Home) -> tuple[FileJournal, list[Recipient], Page]:
    """A worker opens batch 0 and its group, hands over the first two, hears of the first, and goes no further."""
    journal = made.journals.begin(home.campaign)
    batches = _batches(made)
    opened = batches.open(home, 0, journal.owner)
    assert opened is not None
    group = made.messages.load(home, 0, made.clock.now(), 128)
    batches.record(home, opened, [], group)
    page = journal.page(0, opened.fence)
    page.handing(group[0].key)
    page.handing(group[1].key)
    page.answered(Settlement(group[0].key, MessageState.SENT, 1, made.clock.now(), None, 250, "ok", "id"))
    return journal, group, page


def _states(made: Bench, home: Home, members: list[Recipient]) -> list[MessageState]:
    return [found.state for found in (made.messages.get(home, 0, member.key) for member in members) if found is not None]


def test_of_a_dead_worker_only_what_was_in_flight_is_unknown(made: Bench) -> None:
    home = made.campaign(people=40).home
    journal, group, _ = _left_open(made, home)
    journal.close()  # what a kill does: the lock is free, the page stays
    assert _open(made, home) is not None
    assert _states(made, home, group) == [MessageState.SENT, MessageState.UNKNOWN] + [MessageState.PENDING] * (len(group) - 2)
    unknown = made.messages.get(home, 0, group[1].key)
    assert unknown is not None
    assert (unknown.attempt, unknown.reply, unknown.due) == (1, UNANSWERED, None)


def test_a_dead_worker_s_lease_need_not_run_out(made: Bench) -> None:
    home = made.campaign().home
    journal, _, _ = _left_open(made, home)
    assert _open(made, home) is None
    assert _batches(made).claim(home, "next", 10) == [1]
    journal.close()
    assert _batches(made).claim(home, "next", 10) == [0, 1]


def test_a_stopped_worker_is_waited_for_and_then_its_whole_group_is_unknown(made: Bench) -> None:
    home = made.campaign(people=40).home
    _, group, _ = _left_open(made, home)
    made.clock.advance(LEASE_MS / 1000 + 1)
    assert _open(made, home) is None
    assert set(_states(made, home, group)) == {MessageState.PENDING}
    assert _open(made, home, wait=False) is not None
    assert set(_states(made, home, group)) == {MessageState.UNKNOWN}
    first = made.messages.get(home, 0, group[0].key)
    assert first is not None
    assert first.reply == UNCERTAIN


@pytest.mark.parametrize("ending", ["killed", "sealed"])
def test_a_stopped_worker_that_dies_or_wakes_meanwhile_leaves_only_what_was_in_flight(made: Bench, ending: str) -> None:
    home = made.campaign(people=40).home
    journal, group, page = _left_open(made, home)
    made.clock.advance(LEASE_MS / 1000 + 1)
    assert _open(made, home) is None
    if ending == "killed":
        journal.close()
    else:  # it looked at the time, found its lease lost, and let go
        page.seal()
    assert _open(made, home) is not None
    assert _states(made, home, group) == [MessageState.SENT, MessageState.UNKNOWN] + [MessageState.PENDING] * (len(group) - 2)


def test_under_never_missed_the_unknown_are_due_again(made: Bench) -> None:
    home = made.campaign(people=40).home
    journal, group, _ = _left_open(made, home)
    journal.close()
    never_missed = Policies(unknown=UnknownPolicy.NEVER_MISSED, settle_after_ms=5_000)
    assert _open(made, home, policies=never_missed) is not None
    made.clock.advance(6)
    due = {recipient.key: recipient for recipient in made.messages.load(home, 0, made.clock.now(), 128)}
    assert due[group[1].key].state is MessageState.UNKNOWN
    assert due[group[1].key].attempt == 1
    assert group[0].key not in due


def test_whoever_settled_a_group_and_died_leaves_it_settled(made: Bench) -> None:
    home = made.campaign(people=40).home
    journal, group, _ = _left_open(made, home)
    journal.close()
    second = made.journals.begin(home.campaign)
    assert _open(made, home, second.owner) is not None
    made.clock.advance(LEASE_MS / 1000 + 1)
    before = _states(made, home, group)
    assert _open(made, home, "third") is not None
    assert _states(made, home, group) == before


@pytest.mark.parametrize(
    ("state", "due", "doubtful"),
    [
        (MessageState.PENDING, None, True),
        (MessageState.DEFERRED, 99, True),  # due when the group was opened: this attempt is not recorded
        (MessageState.UNKNOWN, 100, True),
        (MessageState.DEFERRED, 101, False),  # put off by the group's own attempt
        (MessageState.UNKNOWN, 101, False),
        (MessageState.UNKNOWN, None, False),
        (MessageState.SENT, None, False),
        (MessageState.SKIPPED, None, False),
    ],
)
def test_an_outcome_that_its_owner_recorded_is_not_doubted(state: MessageState, due: int | None, doubtful: bool) -> None:
    """On DynamoDB a crash may leave outcomes recorded and the group open."""
    member = Recipient(Key(b"k" * 12), 2, "a@example.com", None, "[]", state, 1, None if due is None else Instant(due))
    assert in_doubt(member, Instant(100)) is doubtful


def test_a_clock_set_back_does_not_make_a_group_look_recorded(made: Bench) -> None:
    """The group was opened for somebody who was due by then, whatever the clock says afterwards."""
    home = made.campaign(people=10, batches=1).home
    batches = _batches(made)
    owner = made.journals.begin(home.campaign)
    opened = batches.open(home, 0, owner.owner)
    assert opened is not None
    first, *_ = made.messages.load(home, 0, made.clock.now(), 128)
    due = Instant(made.clock.now() + 60_000)
    batches.record(home, opened, [Settlement(first.key, MessageState.DEFERRED, 1, made.clock.now(), due)], ())
    (deferred,) = [each for each in made.messages.load(home, 0, due, 128) if each.key == first.key]
    batches.record(home, opened, [], [deferred])  # the clock reads a minute less than when it was loaded
    taken = made.messages.open(home, 0, "next", due, lease_ms=LEASE_MS, dead=[owner.owner])
    assert taken is not None
    assert taken.left_open is not None
    assert in_doubt(deferred, taken.left_open.at)
