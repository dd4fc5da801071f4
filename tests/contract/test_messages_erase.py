"""The promise of `ports.messages.erase` on every backend: whom a message was for is forgotten, and nothing else changes."""

from __future__ import annotations

import pytest

from postroom.errors import Conflict, LeaseLost, NotFound
from postroom.model.message import ERASED, Counts
from postroom.platform.ports.messages import Messages
from tests.contract.backend import Backend
from tests.contract.messages_kit import CAMPAIGN, NOW, S, at, key, opened, outcome, record, row, stands, states, stored

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")


def erase(messages: Messages, fence: int, n: int, *, values: str = "[]", ms: int = 5) -> bool:
    return messages.erase(CAMPAIGN, 0, fence, key(n), at(ms), values=values)


def test_what_is_told_of_the_recipient_goes_and_all_else_stays(backend: Backend, messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0), outcome(1, S.BOUNCED)])
    before, other = stands(messages, 1), stands(messages, 0)
    assert before.reply
    assert erase(messages, fence, 1, values='["kept"]')
    messages.close(CAMPAIGN, 0, fence)
    after = stands(backend.messages(), 1)
    assert (after.address, after.name, after.values, after.reply) == (ERASED, None, '["kept"]', "")
    facts = [(m.line, m.status, m.attempt, m.at, m.due, m.code, m.provider_id) for m in (before, after)]
    assert facts[0] == facts[1]
    assert stands(messages, 0) == other
    assert messages.counts(CAMPAIGN) == Counts(pending=1, sent=1, bounced=1)
    assert messages.next_due(CAMPAIGN) == 0


def test_again_or_for_nobody_it_changes_nothing(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(1)])
    assert erase(messages, fence, 1)
    erased = stands(messages, 1)
    assert not erase(messages, fence, 1)
    assert not erase(messages, fence, 77)
    assert stands(messages, 1) == erased


@pytest.mark.parametrize("state", [S.PENDING, S.DEFERRED, S.UNKNOWN])
def test_what_is_still_work_is_not_erased(messages: Messages, state: S) -> None:
    stored(messages, 0)
    fence = opened(messages)
    if state is not S.PENDING:
        record(messages, fence, [outcome(1, state)._replace(due=at(60_000))])
    before = stands(messages, 1)
    with pytest.raises(Conflict):
        erase(messages, fence, 1)
    assert stands(messages, 1) == before
    record(messages, fence, [outcome(1, S.UNKNOWN)._replace(due=None)])
    assert erase(messages, fence, 1)


def test_what_stands_in_an_open_group_is_not_erased(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(1), outcome(2)], [1])
    with pytest.raises(Conflict) as refused:
        erase(messages, fence, 1)
    assert not isinstance(refused.value, LeaseLost)
    assert erase(messages, fence, 2)
    record(messages, fence)
    assert erase(messages, fence, 1)


def test_an_old_fence_erases_nothing(backend: Backend, messages: Messages) -> None:
    stored(messages, 0)
    old = opened(messages)
    record(messages, old, [outcome(1)])
    new = opened(backend.messages(), "w2", dead=["w1"])
    with pytest.raises(LeaseLost):
        erase(messages, old, 1)
    assert stands(messages, 1).address != ERASED
    assert erase(messages, new, 1)


def test_a_settlement_that_comes_later_keeps_the_recipient_erased(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(1)])
    erase(messages, fence, 1)
    record(messages, fence, [outcome(1, S.DELIVERED)])
    assert (stands(messages, 1).address, states(messages, keys=[1])) == (ERASED, [S.DELIVERED])


def test_a_row_of_the_same_key_that_comes_later_is_a_duplicate_of_the_erased_one(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(1, S.SKIPPED)])
    erase(messages, fence, 1)
    line = stands(messages, 1).line
    assert messages.store(CAMPAIGN, [row(1, line=1)], NOW) == [line]
    assert stands(messages, 1).address == ERASED


def test_no_such_batch_or_campaign_is_not_found(messages: Messages) -> None:
    with pytest.raises(NotFound):
        messages.erase(CAMPAIGN, 0, 1, key(1), NOW)
    stored(messages, 0)
    with pytest.raises(NotFound):
        messages.erase(CAMPAIGN, 9, 1, key(1), NOW)
