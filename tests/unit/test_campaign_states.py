"""Campaign records: rules of transition, and one winner among those who write at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from postroom.errors import Conflict, NotFound
from postroom.model.campaign import ENDED, TRANSITIONS, CampaignRef, CampaignStatus
from tests.fakes.ledger import Bench, bench


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def test_every_state_has_its_rules_and_can_be_reached() -> None:
    assert TRANSITIONS.keys() == set(CampaignStatus)
    assert set().union(*TRANSITIONS.values()) == set(CampaignStatus) - {CampaignStatus.DRAFT}


def test_nothing_leaves_an_end_but_retrying_a_completed_campaign() -> None:
    assert {(old, new) for old in ENDED for new in TRANSITIONS[old]} == {(CampaignStatus.COMPLETED, CampaignStatus.SENDING)}


def test_only_the_transitions_of_the_table_are_possible(made: Bench) -> None:
    for old, new in product(CampaignStatus, CampaignStatus):
        campaign = made.campaign(old, people=1, batches=1)
        if new in TRANSITIONS[old]:
            assert made.campaigns.transition(campaign, new).status is new
        else:
            with pytest.raises(Conflict):
                made.campaigns.transition(campaign, new)
            assert made.campaigns.get(campaign.ref).status is old


def test_of_two_who_read_the_same_record_one_wins(made: Bench) -> None:
    campaign = made.campaign()
    made.campaigns.transition(campaign, CampaignStatus.PAUSED, reason="first")
    with pytest.raises(Conflict):
        made.campaigns.transition(campaign, CampaignStatus.CANCELLED)
    assert made.campaigns.get(campaign.ref).reason == "first"


def test_a_record_comes_back_as_it_was_stored(made: Bench) -> None:
    campaign = made.campaign()
    assert made.campaigns.get(campaign.ref) == campaign


def test_an_id_is_taken_once(made: Bench) -> None:
    campaign = made.campaign()
    with pytest.raises(Conflict):
        made.campaigns.create(campaign)


def test_lists_show_the_newest_first_and_only_the_tenant_s(made: Bench) -> None:
    refs = []
    for _ in range(3):
        refs.append(made.campaign(people=1, batches=1).ref)
        made.clock.advance(1)
    assert [campaign.ref for campaign in made.campaigns.list("default").items] == refs[::-1]
    assert made.campaigns.list("other").items == []


def test_another_tenant_s_id_is_not_found(made: Bench) -> None:
    campaign = made.campaign()
    with pytest.raises(NotFound):
        made.campaigns.get(CampaignRef("other", campaign.ref.campaign))
