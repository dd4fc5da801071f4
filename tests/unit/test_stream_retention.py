"""Single messages are deleted when they are older than they are kept, with what they were made of; younger ones stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.delivery.transactional import ERA_DAYS
from postroom.errors import Corrupt, NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.stream import DAY_MS
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.services.retention import StreamRetention
from tests.fakes.faults import Faults, Killed
from tests.fakes.transactional import TransactionalBench, request, transactional_bench


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


def retention(made: TransactionalBench, faults: Faults | None = None) -> StreamRetention:
    counted, stores = faults or Faults(), made.made
    return StreamRetention(
        counted.wrap(stores.tables),
        made.tenants,
        made.streams,
        contents=made.contents,
        messages=counted.wrap(stores.messages),
        journals=counted.wrap(stores.journals),
        workflows=counted.wrap(stores.workflows),
    )


def contents(made: TransactionalBench) -> int:
    return len(made.objects.list("default/streams/").objects)


def test_what_is_old_goes_and_what_is_young_stays(made: TransactionalBench) -> None:
    (old,) = made.accept(request())
    made.send(lambda: made.states() == ["sent"])
    made.clock.advance(9 * 86_400)
    (young,) = made.accept(request())
    expiring = retention(made)
    expiring.expire(made.clock.now(), days=8)
    assert made.message(old)
    made.clock.advance(86_400)
    expiring.expire(made.clock.now(), days=8)
    with pytest.raises(NotFound):
        made.message(old)
    assert made.message(young)
    assert expiring.expire(made.clock.now(), days=8) == 0


def test_contents_go_with_the_last_stream_of_their_era(made: TransactionalBench) -> None:
    made.accept(request())
    made.send(lambda: made.states() == ["sent"])
    made.clock.advance((ERA_DAYS + 1) * DAY_MS / 1000)
    made.accept(request())
    assert contents(made) == 2
    retention(made).expire(made.clock.now(), days=ERA_DAYS)
    assert contents(made) == 2
    made.clock.advance(ERA_DAYS * DAY_MS / 1000)
    retention(made).expire(made.clock.now(), days=ERA_DAYS)
    assert contents(made) == 1


def test_a_stream_that_owes_something_is_left_until_it_does_not(made: TransactionalBench) -> None:
    made.mailer.answer = lambda _address: Result(Verdict.TEMPORARY, 451, "", "later", Stage.RCPT)
    (accepted,) = made.accept(request())
    made.send(lambda: made.states() == ["deferred"])
    made.clock.advance(9 * 86_400)
    retention(made).expire(made.clock.now(), days=1)
    assert made.message(accepted)


def test_every_tenant_is_gone_through(made: TransactionalBench) -> None:
    made.tenants.create("other")
    (theirs,) = made.accept(request(), tenant="other")
    made.streams.end(theirs.ref)
    made.made.messages.drop(theirs.ref)
    assert retention(made).expire(made.clock.now(), days=1) == 2 * 400


def test_a_tenant_whose_streams_cannot_be_read_keeps_no_other_tenants(
    made: TransactionalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.tenants.create("other")
    (theirs,) = made.accept(request(), tenant="other")

    def damaged(ref: CampaignRef) -> bool:
        if ref.tenant == "default":
            raise Corrupt("the ledger is damaged")
        return False  # all is sent

    monkeypatch.setattr(made.streams, "owes", damaged)
    made.clock.advance(9 * 86_400)
    with pytest.raises(Corrupt):
        retention(made).expire(made.clock.now(), days=1)
    with pytest.raises(NotFound):
        made.service.get("other", theirs.id)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("line", range(2, 6))
def test_a_deletion_that_dies_is_carried_out_by_the_next(made: TransactionalBench, line: int, after: bool) -> None:
    (accepted,) = made.accept(request())
    made.send(lambda: made.states() == ["sent"])
    made.clock.advance(9 * 86_400)
    retention(made).expire(made.clock.now(), days=7 + 1)  # all days before it
    made.clock.advance(86_400)
    with pytest.raises(Killed):
        retention(made, Faults(line, after=after)).expire(made.clock.now(), days=8)
    retention(made).expire(made.clock.now(), days=8)
    with pytest.raises(NotFound):
        made.message(accepted)
    assert made.made.journals.dead(accepted.ref.campaign) == []
